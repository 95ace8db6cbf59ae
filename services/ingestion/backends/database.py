"""The ledger in a database: SQLite on one machine, PostgreSQL in a cluster."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Executable, Row

from services.chassis.database import Database
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import JobTable
from services.ingestion.backends.change import SqlChange
from services.ingestion.backends.records import Records

__all__ = ["SqlLedger"]


class SqlLedger(Records):
    """Records in the room's own database.

    Args:
        database: The database, migrated.
        jobs: Its job table.
        outbox: Its outbox.
        on_kept: Called after each transaction that was kept: jobs or facts may wait.
    """

    def __init__(self, database: Database, *, jobs: JobTable, outbox: Outbox, on_kept: Callable[[], None]) -> None:
        self._database = database
        self._jobs = jobs
        self._outbox = outbox
        self._on_kept = on_kept

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds."""
        async with self._database.connect() as connection:
            return (await connection.execute(query)).all()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[SqlChange]:
        """Open a transaction; it is kept when the block ends and undone on an error."""
        async with self._database.begin() as connection:
            yield SqlChange(connection, jobs=self._jobs, outbox=self._outbox)
        self._on_kept()
