"""Reads a topic for a group: handle, then commit. Handlers are idempotent, because delivery is at least once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from services.chassis.errors import BrainError, DeadlineExceeded, Internal, Overloaded, Unavailable
from services.chassis.events.log import Envelope, EventLog, Record
from services.chassis.telemetry import continued_trace

__all__ = ["EventConsumer"]

_log = structlog.get_logger()

# What passes by itself: the partition waits.
_TRANSIENT: Final = (Unavailable, DeadlineExceeded, Overloaded)
# A handler's own bug may be a passing fault of a library; after so many tries it is taken for permanent.
_MAX_CRASHES: Final = 5
_MAX_PAUSE_S: Final = 5.0


class EventConsumer:
    """One group's reader of one topic.

    A transient error (Unavailable, DeadlineExceeded, Overloaded) pauses the partition and tries again; any other puts
    the record on the dead letters with its reason, tells `on_dead`, and goes on.

    Args:
        log: The log.
        topic: What to read.
        group: For whom.
        handle: Does the work of one event.
        on_dead: Brings whatever the event was about to a final state.
        handle_batch: Does the work of several events at once; when it fails, they are handled one by one.
        batch: Most events handed to `handle_batch`.
        dead_letters: Counter with the label `topic`.
        lag: Gauge for the number of records not yet committed.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        topic: str,
        group: str,
        handle: Callable[[Envelope], Awaitable[None]],
        on_dead: Callable[[Envelope, BrainError], Awaitable[None]],
        handle_batch: Callable[[Sequence[Envelope]], Awaitable[None]] | None = None,
        batch: int = 1,
        dead_letters: Counter | None = None,
        lag: Gauge | None = None,
    ) -> None:
        self._source = log
        self._topic = topic
        self._group = group
        self._handle = handle
        self._on_dead = on_dead
        self._handle_batch = handle_batch
        self._batch = batch
        self._dead_letters = dead_letters
        self._lag = lag

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self.step()
            except _TRANSIENT as error:
                _log.warning("consumer_waits", topic=self._topic, reason=error.message)
                await asyncio.sleep(_pause_s(1))

    async def step(self, *, wait_s: float = 5.0) -> int:
        """Handle and commit what is there, at most one batch; return the number of records.

        Raises:
            Unavailable: The log is away.
        """
        records = await self._source.read(self._topic, self._group, limit=self._batch, wait_s=wait_s)
        if self._lag is not None:
            # Where nothing was found nothing waits: an idle room does not count.
            self._lag.set(await self._source.lag(self._topic, self._group) if records else 0)
        if not records:
            return 0
        if not await self._handled_together(records):
            for record in records:
                await self._handle_one(record)
                await self._source.commit(self._group, record)
            return len(records)
        for record in _last_of_each_partition(records):
            await self._source.commit(self._group, record)
        return len(records)

    async def _handled_together(self, records: Sequence[Record]) -> bool:
        """Try the records as one batch; return whether that did the work."""
        if self._handle_batch is None or len(records) == 1:
            return False
        first = records[0].envelope
        try:
            with continued_trace(f"{self._topic} process", first.traceparent, {"messaging.batch.size": len(records)}):
                await self._handle_batch([record.envelope for record in records])
        except Exception as error:  # noqa: BLE001  one of them is at fault: find out which
            _log.warning("batch_split", topic=self._topic, size=len(records), reason=repr(error))
            return False
        return True

    async def _handle_one(self, record: Record) -> None:
        """Handle one record to its end: done, or dead."""
        envelope = record.envelope
        attempt, crashes = 0, 0
        while True:
            attempt += 1
            try:
                with continued_trace(
                    f"{self._topic} process", envelope.traceparent, {"messaging.message.id": envelope.event_id}
                ):
                    await self._handle(envelope)
            except _TRANSIENT as error:
                _log.warning("event_waits", topic=self._topic, event_id=envelope.event_id, reason=error.message)
            except BrainError as error:
                await self._bury(record, error)
                return
            except Exception as error:  # noqa: BLE001  the outermost loop of an event
                crashes += 1
                _log.error("event_crashed", topic=self._topic, event_id=envelope.event_id, exc_info=error)
                if crashes >= _MAX_CRASHES:
                    await self._bury(record, Internal("The event could not be handled.", private=repr(error)))
                    return
            else:
                return
            await asyncio.sleep(_pause_s(attempt))

    async def _bury(self, record: Record, error: BrainError) -> None:
        _log.error(
            "event_dead",
            topic=self._topic,
            event_id=record.envelope.event_id,
            key=record.envelope.key,
            reason=error.message,
            private=error.private,
        )
        await self._source.dead_letter(record, f"{error.code}: {error.message}")
        if self._dead_letters is not None:
            self._dead_letters.labels(topic=self._topic).inc()
        await self._on_dead(record.envelope, error)


def _pause_s(attempt: int) -> float:
    """Return how long to wait before try `attempt` + 1: exponential, capped, with full jitter."""
    return random.uniform(0.05, min(_MAX_PAUSE_S, 0.1 * 2**attempt))  # noqa: S311  spreads retries, guards nothing


def _last_of_each_partition(records: Sequence[Record]) -> list[Record]:
    return list({record.partition: record for record in records}.values())
