"""Databases that a test has for itself: a file, or a schema on the real PostgreSQL."""

import asyncio
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg
from sqlalchemy import MetaData

from services.chassis.database import Database

__all__ = ["fresh_schema", "make_tables"]


@contextmanager
def fresh_schema(server: str) -> Iterator[str]:
    """Yield the URL of a schema that is not there yet; what is made in it is removed afterwards.

    Args:
        server: `postgresql://user@host:port`.
    """
    schema = f"test_{secrets.token_hex(6)}"
    yield f"{server}/postgres?schema={schema}"

    async def drop() -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        # Who was forgotten in a transaction would hold it up.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", f"brain {schema}"
        )
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await connection.close()

    # In a thread: the test may have an event loop of its own here.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, drop()).result()


async def make_tables(database: Database, metadata: MetaData) -> None:
    """Make tables that have no migrations."""
    async with database.migrating() as connection:
        await connection.run_sync(metadata.create_all)
