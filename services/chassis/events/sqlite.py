"""The event log in one SQLite file that all rooms of a machine share.

One partition for each topic. A group has one reading member, as one process carries a role on one machine. A topic is
emulated as compacted where it is replayed: of each key of each tenant only the newest record is handed out.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from services.chassis.database import Database
from services.chassis.events.log import Envelope, Record, dead_letter_topic
from services.chassis.events.rows import envelope_columns, envelope_of, envelope_row

__all__ = ["SqliteEventLog"]

# How often a waiting reader looks whether another process wrote: a look at the file, a few microseconds.
_POLL_S: Final = 0.05
# How often it asks the database anyway: a file's time is only as fine as the file system keeps it. Rarely, as many readers in
# many rooms wait at all times, and each question costs milliseconds of a core.
_ASK_ANYWAY_S: Final = 5.0
# A writer changes the file, flushes it, and only then lets others read it: whoever saw the change and found nothing asks again
# so much later, each time twice as long, before it takes the change for another topic's.
_ASK_AGAIN_S: Final = (0.05, 0.1, 0.2)

_metadata = MetaData()
_records = Table(
    "records",
    _metadata,
    Column("offset", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    *envelope_columns(),
    Column("reason", String, nullable=False, default=""),
    Index("records_by_topic", "topic", "offset"),
    # Offsets are never given twice, even after the newest records were removed.
    sqlite_autoincrement=True,
)
_commits = Table(
    "commits",
    _metadata,
    Column("topic", String, primary_key=True),
    Column("consumer_group", String, primary_key=True),
    Column("offset", Integer, nullable=False),
)


class SqliteEventLog:
    """Back end of the event log port.

    Args:
        path: File; empty for one in memory (tests).
    """

    def __init__(self, path: str) -> None:
        self._database = Database(f"sqlite:///{path}" if path else "sqlite://")
        self._files = (path, f"{path}-wal") if path else ()
        self._ready = False
        self._opening = asyncio.Lock()
        self._published = asyncio.Event()
        self._publications = 0

    async def publish(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        """Append envelopes in one transaction."""
        await self._append(topic, envelopes, reason="")

    async def read(self, topic: str, group: str, *, limit: int = 1, wait_s: float = 5.0) -> list[Record]:
        """Return the records after the group's last commit."""
        await self._open()
        committed = (
            select(_commits.c.offset)
            .where(_commits.c.topic == topic, _commits.c.consumer_group == group)
            .scalar_subquery()
        )
        query = _after(topic, func.coalesce(committed, 0)).limit(limit)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        pauses: list[float] = []
        while True:
            self._published.clear()
            seen = self._written()
            async with self._database.connect() as connection:
                rows = (await connection.execute(query)).all()
            left = until - loop.time()
            if rows or left <= 0:
                return [_record(row) for row in rows]
            pauses = await self._wait(min(pauses.pop(0) if pauses else _ASK_ANYWAY_S, left), seen) or pauses

    async def commit(self, group: str, record: Record) -> None:
        """Note how far the group is; going back is ignored."""
        await self._open()
        row = {"topic": record.topic, "consumer_group": group, "offset": record.offset}
        statement = upsert(_commits).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["topic", "consumer_group"],
            set_={"offset": func.max(_commits.c.offset, statement.excluded.offset)},
        )
        async with self._database.begin() as connection:
            await connection.execute(statement)

    async def replay(self, topic: str, *, caught_up: asyncio.Event | None = None) -> AsyncIterator[Record]:
        """Yield the newest record of each key in order, then what comes."""
        await self._open()
        newest = (
            select(func.max(_records.c.offset))
            .where(_records.c.topic == topic)
            .group_by(_records.c.tenant, _records.c.key)
            .subquery()
        )
        async with self._database.connect() as connection:
            seen = await connection.scalar(select(func.max(_records.c.offset)).where(_records.c.topic == topic)) or 0
            rows = (await connection.execute(_after(topic, 0).where(_records.c.offset.in_(select(newest.c[0]))))).all()
        for row in rows:
            yield _record(row)
        if caught_up is not None:
            caught_up.set()
        pauses: list[float] = []
        while True:
            self._published.clear()
            written = self._written()
            async with self._database.connect() as connection:
                rows = (await connection.execute(_after(topic, seen).limit(100))).all()
            for row in rows:
                seen = row.offset
                yield _record(row)
            if not rows:
                pauses = await self._wait(pauses.pop(0) if pauses else _ASK_ANYWAY_S, written) or pauses

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put the record on the topic's dead letters."""
        await self._append(dead_letter_topic(record.topic), [record.envelope], reason=reason)

    async def lag(self, topic: str, group: str) -> int:
        """Return the number of records after the group's last commit."""
        await self._open()
        done = (
            select(func.coalesce(func.max(_commits.c.offset), 0))
            .where(_commits.c.topic == topic, _commits.c.consumer_group == group)
            .scalar_subquery()
        )
        counted = select(func.count()).select_from(_records).where(_records.c.topic == topic, _records.c.offset > done)
        async with self._database.connect() as connection:
            return int(await connection.scalar(counted) or 0)

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def _append(self, topic: str, envelopes: Sequence[Envelope], *, reason: str) -> None:
        await self._open()
        rows = [envelope_row(topic, envelope) | {"reason": reason} for envelope in envelopes]
        if not rows:
            return
        async with self._database.begin() as connection:
            await connection.execute(insert(_records), rows)
        self._publications += 1
        self._published.set()

    async def _open(self) -> None:
        if self._ready:
            return
        async with self._opening:
            if not self._ready:
                async with self._database.begin() as connection:
                    await connection.run_sync(_metadata.create_all)
                self._ready = True

    def _written(self) -> tuple[tuple[int, int], ...]:
        """Return what changes when anybody writes: how often this process did, time and size of the files."""
        files = (found for found in map(_stat, self._files) if found is not None)
        return ((self._publications, 0), *((found.st_mtime_ns, found.st_size) for found in files))

    async def _wait(self, seconds: float, seen: tuple[tuple[int, int], ...]) -> list[float]:
        """Wait until this process published something or another one wrote, at most `seconds`.

        Returns:
            When to ask again should nothing be found after somebody wrote; nothing otherwise.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._written() == seen:
            if (left := until - loop.time()) <= 0:
                return []
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_POLL_S, left)):
                    await self._published.wait()
        return [*_ASK_AGAIN_S]


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  some microseconds, twenty times a second
    except FileNotFoundError:
        return None


def _after(topic: str, offset: Any) -> Any:
    return select(_records).where(_records.c.topic == topic, _records.c.offset > offset).order_by(_records.c.offset)


def _record(row: Row[Any]) -> Record:
    return Record(topic=row.topic, partition=0, offset=row.offset, envelope=envelope_of(row))
