"""SQLite: a file on this machine, or in memory (tests)."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiosqlite
from sqlalchemy import Connection, event, pool
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.chassis.errors import BrainError, Unavailable

__all__ = ["BEGIN", "open_engine", "translated"]

# What a connection's `info` says under this name begins its next transaction, instead of a plain BEGIN.
BEGIN: Final = "begin"
# How long a writer waits for another one before it gives up.
_BUSY_TIMEOUT_S: Final = 30


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


def open_engine(path: str, ending: set[asyncio.Future[None]]) -> AsyncEngine:
    """Return an engine on a file, whose folder is made; on one in memory when `path` is empty.

    Args:
        path: The file.
        ending: Takes what tells when connections have ended that are being ended, also in the background.
    """

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
        connection.exec_driver_sql(connection.info.pop(BEGIN, "BEGIN"))

    return engine


def translated(context: ExceptionContext) -> BrainError | None:
    """Return the error of ours that a driver's error stands for; None when it is a fault of ours."""
    if isinstance(context.sqlalchemy_exception, OperationalError):
        private = repr(context.sqlalchemy_exception)
        return Unavailable("The database is not available.", private=private, retry_after_s=1.0)
    return None
