"""Transactions on a room's database, and what both databases spell differently."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy import Executable, Table, event, text
from sqlalchemy.dialects import postgresql as postgresql_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateSchema

from services.chassis.database import sqlite
from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.settings import RoomSettings

__all__ = ["Database", "hold", "upsert"]


class Database:
    """A room's database.

    Errors of a database that is away, full, locked for too long or that gave way to another transaction are `Unavailable`
    wherever they come up, also inside a block; the whole block may be tried again.

    Args:
        url: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, `sqlite://` (in memory, for tests) or
            `postgresql://user@host/database?schema=room`: a connection URI as libpq knows it, with the schema that is the
            room's own.
        access: How PostgreSQL lets us in (`database_ca_file` …); None for what the URL says.

    Raises:
        InvalidInput: It is none of these.
    """

    def __init__(self, url: str, *, access: RoomSettings | None = None) -> None:
        self.url = url
        # Of connections that are being ended, in the background where their user was cancelled.
        self._ending: set[asyncio.Future[None]] = set()
        scheme, _, rest = url.partition("://")
        match scheme:
            case "sqlite":
                self._schema = ""
                self.engine = self._reading = sqlite.open_engine(rest.removeprefix("/"), self._ending)
                self._patient: Callable[[], AsyncEngine] = lambda: self.engine
                self._translated = sqlite.translated
            case "postgresql":
                from services.chassis.database import postgresql  # noqa: PLC0415  only what is chosen is imported

                address = postgresql.Address.parse(url, access)
                self._schema = address.schema
                self.engine = postgresql.open_engine(address)
                self._reading = self.engine.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                self._patient = lambda: postgresql.open_engine(address, hurried=False)
                self._translated = postgresql.translated
            case _:
                raise InvalidInput(f"database_url: {scheme!r} is not offered; use sqlite:///PATH or postgresql://…")
        _translate(self.engine, self._translated)

    @asynccontextmanager
    async def begin(self, *, alone: bool = False) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a write transaction; it commits when the block ends and rolls back on an error.

        SQLite lets one writer in after the other. In PostgreSQL each statement sees what others committed before it: read
        with FOR UPDATE what must stay as it is until the end.

        Args:
            alone: No other transaction of the room that asks for the same runs meanwhile: for rules about rows that may
                not be there yet. Wait for nothing slow in it.

        Raises:
            Unavailable: The database is away, or was locked for too long. Whether a commit that failed so was kept is not
                known.
        """
        async with self._connected(self.engine) as connection:
            if not self._schema:
                # Two that begin by reading would both fail when they come to write.
                connection.sync_connection.info[sqlite.BEGIN] = "BEGIN IMMEDIATE"  # type: ignore[union-attr]
            async with connection.begin():
                if alone and self._schema:
                    await connection.execute(_HOLD, {"name": f"{self._schema} alone"})
                yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reading: one consistent snapshot.

        Raises:
            Unavailable: The database is away.
        """
        async with self._connected(self._reading) as connection:
            yield connection

    @asynccontextmanager
    async def only_one(self, name: str) -> AsyncIterator[bool]:
        """Yield whether no other process of the room is in a block of this name.

        Always true on SQLite, where one process carries a role. In PostgreSQL a process that falls silent for a minute
        loses its place; it learns of it at the end of the block.

        Raises:
            Unavailable: The database is away, or went away meanwhile.
        """
        if not self._schema:
            yield True
            return
        async with self._connected(self.engine) as connection, connection.begin():
            yield bool(await connection.scalar(_TRY_HOLD, {"name": f"{self._schema} {name}"}))

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that no other migration of the room runs beside; for `migrate`.

        Raises:
            Unavailable: The database is away.
        """
        if not self._schema:
            async with self.begin() as connection:
                yield connection
            return
        engine = self._patient()
        _translate(engine, self._translated)
        try:
            async with self._connected(engine) as connection, connection.begin():
                await connection.execute(_HOLD, {"name": f"{self._schema} migration"})
                # Asked first: who may not make schemas may have been given one.
                if await connection.scalar(_SCHEMA_THERE, {"name": self._schema}) is None:
                    await connection.execute(CreateSchema(self._schema))
                yield connection
        finally:
            await engine.dispose()

    async def close(self) -> None:
        """Let go of all connections."""
        await self.engine.dispose()
        await asyncio.gather(*self._ending, return_exceptions=True)

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(engine.connect())
            except (PoolTimeoutError, OSError, TimeoutError) as error:
                raise Unavailable("The database is not available.", private=repr(error), retry_after_s=1.0) from error
            yield connection


# Locks by name that end with the transaction; names are the whole database's, so that each holds its schema.
_HOLD = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_SCHEMA_THERE = text("SELECT to_regnamespace(:name)")
_TRY_HOLD = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")


def _translate(engine: AsyncEngine, translated: Any) -> None:
    """Have an engine raise our errors where the driver's come up, so that nobody has to tell them from the block's own."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        # A ping that finds the connection gone is answered with a new one.
        found = None if context.is_pre_ping else translated(context)
        if found is not None:
            raise found from context.original_exception


async def hold(connection: AsyncConnection, query: Executable) -> None:
    """Keep others from changing the rows that a SELECT … FOR UPDATE finds, until the end of the transaction.

    On SQLite, whose one writer holds everything, nothing is asked.
    """
    if connection.dialect.name != "sqlite":
        await connection.execute(query)


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """Return an INSERT that knows ON CONFLICT; both databases spell it the same way."""
    dialect = sqlite_dialect if connection.dialect.name == "sqlite" else postgresql_dialect
    return dialect.insert(table)
