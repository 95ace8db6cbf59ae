"""The transactional outbox: events are written with the state they announce, and relayed to the log afterwards.

A relay that dies between publishing and marking publishes again when it is back; consumers are idempotent.
"""

import asyncio
import contextlib
import time

import structlog
from prometheus_client import Gauge
from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.errors import Unavailable
from services.chassis.events.log import Envelope, EventLog
from services.chassis.events.rows import envelope_columns, envelope_of, envelope_row

__all__ = ["Outbox", "OutboxRelay", "outbox_table"]

_log = structlog.get_logger()

# Events relayed in one go.
_BATCH = 200


def outbox_table(metadata: MetaData) -> Table:
    """Return a room's outbox table; its migration creates the same columns."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        *envelope_columns(),
        Column("added_at", Float, nullable=False),
    )


class Outbox:
    """Where a room puts its events, inside the transaction that makes them true."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def add(self, connection: AsyncConnection, topic: str, envelope: Envelope) -> None:
        """Put `envelope` into the outbox of the transaction that `connection` is in."""
        row = envelope_row(topic, envelope) | {"added_at": time.time()}
        await connection.execute(insert(self._table).values(row))


class OutboxRelay:
    """Moves events from the outbox to the log, one process of the room at a time: two would publish old events after new ones.

    Args:
        database: The room's database.
        table: Its outbox table.
        log: Where the events go.
        poll_s: How often to look without being woken.
        oldest_pending: Gauge for the age of the oldest event that has not been relayed, in seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        table: Table,
        log: EventLog,
        poll_s: float = 1.0,
        oldest_pending: Gauge | None = None,
    ) -> None:
        self._database = database
        self._table = table
        self._log = log
        self._poll_s = poll_s
        self._oldest_pending = oldest_pending
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: something was added."""
        self._woken.set()

    async def run(self) -> None:
        """Relay until cancelled; while the log or the database is away, wait and try again."""
        while True:
            self._woken.clear()
            try:
                moved = await self.relay_once()
            except Unavailable as error:
                _log.warning("outbox_relay_waits", reason=error.message)
                moved = 0
            if moved == 0:
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._woken.wait()

    async def relay_once(self) -> int:
        """Relay what is pending, at most one batch; return how many events moved."""
        columns = self._table.c
        async with self._database.connect() as connection:
            oldest = await connection.scalar(select(func.min(columns.added_at)))
        if self._oldest_pending is not None:
            self._oldest_pending.set(0.0 if oldest is None else max(0.0, time.time() - oldest))
        if oldest is None:
            return 0
        async with self._database.only_one("outbox") as mine:
            return await self._relay_batch() if mine else 0

    async def _relay_batch(self) -> int:
        columns = self._table.c
        async with self._database.connect() as connection:
            rows = (await connection.execute(select(self._table).order_by(columns.id).limit(_BATCH))).all()
        by_topic: dict[str, list[Envelope]] = {}
        for row in rows:
            by_topic.setdefault(row.topic, []).append(envelope_of(row))
        for topic, envelopes in by_topic.items():
            await self._log.publish(topic, envelopes)
        async with self._database.begin() as connection:
            await connection.execute(delete(self._table).where(columns.id.in_([row.id for row in rows])))
        return len(rows)
