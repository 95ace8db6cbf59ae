"""A member of a Kafka consumer group: what it fetched and nobody has committed, on a thread of its own.

The library's consumer blocks and belongs to one thread at a time; every call below runs on the member's own.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata

__all__ = ["GroupMember", "on_thread"]

_log = structlog.get_logger()

# A cancelled read leaves its thread within this time, so that a stop is soon done.
_SLICE_MS: Final = 500
# How long somebody who will not wait waits all the same: for the group to hand out partitions and for the first fetch.
_SETTLE_S: Final = 15.0
_CALL_MS: Final = 10_000
# Records fetched ahead of whoever reads one by one: an event is some hundred bytes.
_AHEAD: Final = 200
# Who never polls is put out of the group; so often a reader with enough at hand polls all the same.
_SIGN_OF_LIFE_S: Final = 20.0
# Partition and its group have gone their own way since the record was read: whoever holds the partition reads it again.
_LOST: Final = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)

Result = TypeVar("Result")


async def on_thread(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Return what `work` returns on the pool's thread."""
    return await asyncio.get_running_loop().run_in_executor(pool, work)


class GroupMember:
    """Reads one topic for one group.

    The library tells of partitions that come and go on its own thread, at any time; the lock guards what both touch.

    Args:
        consumer: A consumer of the library that nothing was subscribed with yet.
        topic: What to read.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{topic}")
        self._lock = threading.Lock()
        self._fetched: deque[Any] = deque()
        # Of each partition held, where the next commit has to lie at least. One that went and came back begins anew.
        self._next: dict[int, int] = {}
        self._joined = False
        self._polled_at = 0.0
        consumer.subscribe([topic], listener=_Rebalances(self._revoked, self._assigned))

    async def read(self, limit: int, wait_s: float) -> list[Any]:
        """Return up to `limit` records that were not committed, oldest first, waiting up to `wait_s` for the first."""
        until = time.monotonic() + (wait_s or _SETTLE_S)
        while True:
            left_ms = max(0, int((until - time.monotonic()) * 1000))
            found, settled = await on_thread(self._pool, partial(self._poll, limit, min(left_ms, _SLICE_MS)))
            if found or left_ms == 0 or (settled and wait_s == 0):
                return found

    async def commit(self, partition: int, offset: int) -> bool:
        """Commit everything of a partition up to and including `offset`; return False when it is no longer this member's."""
        return await on_thread(self._pool, lambda: self._commit(partition, offset))

    async def lag(self) -> int:
        """Return the number of records of the whole topic that the group has not committed."""
        return await on_thread(self._pool, self._lag)

    async def close(self) -> None:
        """Leave the group, so that others take over at once."""
        await on_thread(self._pool, lambda: self._consumer.close(autocommit=False, timeout_ms=2_000))
        self._pool.shutdown(wait=False)

    def _poll(self, limit: int, timeout_ms: int) -> tuple[list[Any], bool]:
        """Return records, and whether everything that stands in the partitions held was seen."""
        if not self._fetched or time.monotonic() - self._polled_at > _SIGN_OF_LIFE_S:
            polled = self._consumer.poll(timeout_ms=0 if self._fetched else timeout_ms, max_records=max(limit, _AHEAD))
            self._polled_at = time.monotonic()
            with self._lock:
                self._fetched.extend(record for records in polled.values() for record in records)
        with self._lock:
            found = [self._fetched[at] for at in range(min(limit, len(self._fetched)))]
            for record in found:
                self._next.setdefault(record.partition, record.offset)
        return found, not found and self._settled()

    def _settled(self) -> bool:
        if not self._joined:
            return False
        held = list(self._consumer.assignment())
        ends = self._consumer.end_offsets(held, timeout_ms=_CALL_MS) if held else {}
        return all(self._consumer.position(place, timeout_ms=_CALL_MS) >= end for place, end in ends.items())

    def _commit(self, partition: int, offset: int) -> bool:
        place = TopicPartition(self._topic, partition)
        with self._lock:
            at_least = self._next.get(partition)
        if at_least is None or place not in self._consumer.assignment():
            _log.info("commit_of_a_lost_partition", topic=self._topic, partition=partition, offset=offset)
            return False
        if offset < at_least:
            return True
        try:
            self._consumer.commit({place: OffsetAndMetadata(offset + 1)}, timeout_ms=_CALL_MS)
        except _LOST as error:
            _log.info("commit_refused", topic=self._topic, partition=partition, offset=offset, reason=repr(error))
            return False
        with self._lock:
            if partition in self._next:
                self._next[partition] = offset + 1
            self._fetched = deque(
                record for record in self._fetched if record.partition != partition or record.offset > offset
            )
        return True

    def _lag(self) -> int:
        places = [
            TopicPartition(self._topic, number) for number in self._consumer.partitions_for_topic(self._topic) or ()
        ]
        if not places:
            return 0
        ends = self._consumer.end_offsets(places, timeout_ms=_CALL_MS)
        starts = self._consumer.beginning_offsets(places, timeout_ms=_CALL_MS)
        lag = 0
        for place in places:
            done = self._consumer.committed(place, timeout_ms=_CALL_MS)
            lag += max(0, ends[place] - max(starts[place], done or 0))
        return lag

    def _revoked(self, places: Iterable[TopicPartition]) -> None:
        gone = {place.partition for place in places}
        with self._lock:
            self._fetched = deque(record for record in self._fetched if record.partition not in gone)
            for partition in gone:
                self._next.pop(partition, None)

    def _assigned(self, _places: Iterable[TopicPartition]) -> None:
        self._joined = True


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells a member what it holds."""

    def __init__(
        self, revoked: Callable[[Iterable[TopicPartition]], None], assigned: Callable[[Iterable[TopicPartition]], None]
    ) -> None:
        self._revoked = revoked
        self._assigned = assigned

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget what was fetched of them."""
        self._revoked(revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note that the group has handed something, or nothing, out."""
        self._assigned(assigned)
