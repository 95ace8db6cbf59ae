"""A room's own database: SQLite on one machine, PostgreSQL in a cluster; SQLAlchemy Core on asyncio.

One database and one migration history per room. Write transactions are immediate on SQLite, so that two writers wait
for each other instead of failing half way.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiosqlite
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, event, pool
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.chassis.errors import InvalidInput, Unavailable

__all__ = ["Database", "migrate", "upsert"]

# How long a writer waits for another one before it gives up.
_BUSY_TIMEOUT_S = 30


class Database:
    """A room's database.

    Args:
        url: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, `sqlite://` (in memory, for tests) or
            `postgresql://…`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Of connections that are being ended, in the background where their user was cancelled.
        self._ending: set[asyncio.Future[None]] = set()
        scheme, _, rest = url.partition("://")
        if scheme == "sqlite":
            self.engine = _sqlite(rest.removeprefix("/"), self._ending)
        elif scheme == "postgresql":
            self.engine = create_async_engine(f"postgresql+asyncpg://{rest}", pool_pre_ping=True, hide_parameters=True)
        else:
            raise InvalidInput(f"database_url: {scheme!r} is not offered; use sqlite:///PATH or postgresql://…")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a write transaction; it commits when the block ends and rolls back on an error.

        Raises:
            Unavailable: The database is away or was locked for too long.
        """
        try:
            async with self.engine.connect() as connection:
                if connection.dialect.name == "sqlite":
                    connection.sync_connection.info["begin"] = "BEGIN IMMEDIATE"  # type: ignore[union-attr]
                async with connection.begin():
                    yield connection
        except OperationalError as error:
            raise Unavailable("The database is not available.", private=repr(error), retry_after_s=1.0) from error

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reading: one consistent snapshot.

        Raises:
            Unavailable: The database is away.
        """
        try:
            async with self.engine.connect() as connection:
                yield connection
        except OperationalError as error:
            raise Unavailable("The database is not available.", private=repr(error), retry_after_s=1.0) from error

    async def close(self) -> None:
        """Let go of all connections."""
        await self.engine.dispose()
        await asyncio.gather(*self._ending, return_exceptions=True)


class _Connection(aiosqlite.Connection):
    """A connection that may be ended twice.

    Work that is cancelled while its connection is being closed ends it at once; the close, which goes on by itself, would
    end it again and wait for an answer of a thread that is gone: for ever, and with it whoever ends the event loop.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection], ending: set[asyncio.Future[None]]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # As SQLAlchemy sets it: a process that ends waits for no connection.
        self._thread.daemon = True
        self._ending = ending
        self._end: asyncio.Future[None] | None = None

    def stop(self) -> asyncio.Future[None] | None:
        """End the thread; return what tells when it has ended."""
        if self._end is None:
            self._end = super().stop()
            if self._end is not None:
                self._ending.add(self._end)
                self._end.add_done_callback(self._ending.discard)
        return self._end


def _sqlite(path: str, ending: set[asyncio.Future[None]]) -> AsyncEngine:
    def connect() -> aiosqlite.Connection:
        return _Connection(lambda: sqlite3.connect(path or ":memory:", timeout=_BUSY_TIMEOUT_S), ending)

    # Errors are logged, and parameters are what people wrote.
    options: dict[str, Any] = {"async_creator": connect, "hide_parameters": True}
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    else:
        # Every connection to an in-memory database would see one of its own.
        options["poolclass"] = pool.StaticPool
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", **options)

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # SQLAlchemy says BEGIN itself (below); the driver must not.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # What is committed is on the disk: an acknowledged document survives a power cut.
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_TIMEOUT_S * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.info.pop("begin", "BEGIN"))

    return engine


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """Return an INSERT that knows ON CONFLICT; both databases spell it the same way."""
    dialect = sqlite_dialect if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


async def migrate(database: Database, package: str) -> None:
    """Bring the database to the newest version in `<package>/versions` (Alembic).

    Raises:
        Unavailable: The database is away.
    """
    config = Config()
    with resources.as_file(resources.files(package)) as folder:
        config.set_main_option("script_location", str(folder))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
        async with database.begin() as connection:
            await connection.run_sync(_upgrade, config, script)


def _upgrade(connection: Connection, config: Config, script: ScriptDirectory) -> None:
    def steps(revision: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001  what Alembic's own command passes

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        with environment.begin_transaction():
            environment.run_migrations()
