"""Databases that a test has for itself: a file, or a schema on the real PostgreSQL."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from tests.cluster_servers import ClusterServers

__all__ = ["fresh_schema", "fresh_url"]


@contextmanager
def fresh_schema(server: str) -> Iterator[str]:
    """Yield the URL of a schema that nobody has made yet; what is made in it is removed afterwards.

    Args:
        server: `postgresql://user@host:port`.
    """
    schema = f"test_{secrets.token_hex(6)}"
    yield f"{server}/postgres?schema={schema}"

    async def drop() -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await connection.close()

    asyncio.run(drop())


@contextmanager
def fresh_url(kind: str, folder: Path, cluster: ClusterServers | None) -> Iterator[str]:
    """Yield the URL of an empty database of a kind, `sqlite` (a file in `folder`) or `postgresql` (on `cluster`)."""
    if cluster is None:
        yield f"{kind}:///{folder}/room.db"
        return
    with fresh_schema(cluster.postgres) as url:
        yield url
