"""The event log on Kafka: topics with partitions, groups of readers, compacted topics that are replayed.

Delivery is at least once: an idempotent producer with `acks=all`, offsets committed by hand after the work. A topic that is
not there yet is made with the partitions and copies that the URL asks for; one that is there is left as its owner made it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError

from services.chassis.errors import Unavailable
from services.chassis.events.kafka_member import GroupMember, on_thread
from services.chassis.events.kafka_records import (
    Headers,
    KafkaPlace,
    Unreadable,
    envelope_from,
    record_parts,
    with_reason,
)
from services.chassis.events.log import Envelope, Record, dead_letter_topic

__all__ = ["KafkaEventLog"]

_log = structlog.get_logger()

# How long a broker may be away before whoever needs it is told; they try again by themselves.
_REACH_MS: Final = 5_000
# A batch is acknowledged by every copy within this time, or it is published again.
_DELIVERY_MS: Final = 15_000
_REQUEST_MS: Final = 10_000
# The library waits up to 30 s between tries to connect; a broker that is back is to be noticed.
_RECONNECT_MAX_MS: Final = 1_000
# A reader that died is noticed after this time, and its partitions go to others.
_SESSION_MS: Final = 10_000
# The longest a reader may work on what it read: longer than any batch takes, and than a short absence of what it needs.
_MAX_WORK_MS: Final = 600_000
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    # The newest of each key is what replays are for; older ones go within minutes instead of whenever a segment is full.
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
}
# Facts are kept long enough for a reader that was away for a week, and for ever where the topic is compacted.
_KEPT: Final = {"cleanup.policy": "delete", "retention.ms": str(14 * 24 * 3600 * 1000)}
_REPLAY_SLICE_MS: Final = 500


class KafkaEventLog:
    """Back end of the event log port.

    Args:
        place: Brokers, and how new topics are made.
        compacted: Topics of which only the newest record of each key is kept; made with one partition, so that their
            records have one order.
        security: Further settings of every client of the library: TLS files, SASL.
    """

    def __init__(
        self, place: KafkaPlace, *, compacted: Iterable[str] = (), security: dict[str, Any] | None = None
    ) -> None:
        # It repeats itself several times a second while a broker is away; what matters of it is raised, too.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._place = place
        self._compacted = frozenset(map(self._named, compacted))
        self._client = {
            "bootstrap_servers": list(place.servers),
            "bootstrap_timeout_ms": _REACH_MS,
            "request_timeout_ms": _REQUEST_MS,
            "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
        } | (security or {})
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-log")
        self._producer: KafkaProducer | None = None
        self._made: set[str] = set()
        self._members: dict[tuple[str, str], GroupMember] = {}
        self._joining = asyncio.Lock()
        self._replays: set[KafkaConsumer] = set()

    async def publish(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        """Append envelopes; every in-sync copy has them when this returns."""
        await self._send(self._named(topic), [record_parts(envelope) for envelope in envelopes])

    async def read(self, topic: str, group: str, *, limit: int = 1, wait_s: float = 5.0) -> list[Record]:
        """Return what the group's member holds and has not committed."""
        with _translated():
            member = await self._member(self._named(topic), group)
            while True:
                found = await member.read(limit, wait_s)
                records: list[Record] = []
                for one in found:
                    try:
                        records.append(self._record(one))
                    except Unreadable as error:
                        # What stands before it is not done yet, and a commit would say so: it is met again afterwards.
                        if records:
                            break
                        await self._bury(one, error)
                        await member.commit(one.partition, one.offset)
                if records or not found:
                    return records

    async def commit(self, group: str, record: Record) -> None:
        """Note how far the group is; going back is ignored.

        So is a partition that went to another member meanwhile: the record is handed out again there.
        """
        with _translated():
            await (await self._member(self._named(record.topic), group)).commit(record.partition, record.offset)

    async def replay(self, topic: str, *, caught_up: asyncio.Event | None = None) -> AsyncIterator[Record]:
        """Yield the newest record of each key in order, then what comes."""
        topic = self._named(topic)
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-replay-{topic}")
        with _translated():
            await self._make(topic)
            consumer = await on_thread(pool, lambda: self._consumer(None))
        self._replays.add(consumer)
        try:
            with _translated():
                stood = await on_thread(pool, lambda: _stand(consumer, topic))
                newest: dict[bytes, Any] = {}
                while not await on_thread(pool, lambda: _reached(consumer, stood)):
                    for record in await on_thread(pool, lambda: _poll(consumer)):
                        newest.pop(record.key, None)
                        newest[record.key] = record
            # What came after the start is among them, perhaps, and is as new as anything can be.
            for readable in self._readable(newest.values()):
                yield readable
            if caught_up is not None:
                caught_up.set()
            while True:
                with _translated():
                    found = await on_thread(pool, lambda: _poll(consumer))
                for readable in self._readable(found):
                    yield readable
        finally:
            self._replays.discard(consumer)
            pool.submit(consumer.close, autocommit=False, timeout_ms=1_000)
            pool.shutdown(wait=False)

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put the record on the topic's dead letters."""
        key, value, headers = record_parts(record.envelope)
        dead = dead_letter_topic(self._named(record.topic))
        await self._send(dead, [(key, value, with_reason(headers, reason))])

    async def lag(self, topic: str, group: str) -> int:
        """Return the number of records that the group has not committed, in all partitions."""
        with _translated():
            return await (await self._member(self._named(topic), group)).lag()

    async def close(self) -> None:
        """Leave the groups and let go of the brokers."""
        for member in self._members.values():
            with contextlib.suppress(KafkaError):
                await member.close()
        self._members.clear()
        for consumer in list(self._replays):
            with contextlib.suppress(KafkaError):
                await asyncio.to_thread(consumer.close, autocommit=False, timeout_ms=1_000)
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(KafkaError):
                await on_thread(self._pool, lambda: producer.close(timeout=2.0))
        self._pool.shutdown(wait=False)

    def _named(self, topic: str) -> str:
        """Return a topic's name in Kafka."""
        return self._place.prefix + topic

    def _record(self, record: Any) -> Record:
        """Return a record as rooms see it.

        Raises:
            Unreadable: It carries no envelope.
        """
        topic = record.topic.removeprefix(self._place.prefix)
        return Record(topic=topic, partition=record.partition, offset=record.offset, envelope=envelope_from(record))

    def _readable(self, records: Iterable[Any]) -> Iterator[Record]:
        """Yield the records that carry an envelope; of the others each replay says so, and nobody buries them again."""
        for record in records:
            try:
                yield self._record(record)
            except Unreadable as error:
                _say_unreadable(record, error)

    async def _bury(self, record: Any, error: Unreadable) -> None:
        """Put a record that carries no envelope on the dead letters, as it came."""
        _say_unreadable(record, error)
        dead = (record.key or b"unreadable", record.value or b"", with_reason(record.headers, "no envelope"))
        await self._send(dead_letter_topic(record.topic), [dead])

    async def _send(self, topic: str, parts: Sequence[tuple[bytes, bytes, Headers]]) -> None:
        if not parts:
            return
        with _translated():
            await self._make(topic)
            await on_thread(self._pool, lambda: self._send_all(topic, parts))

    def _send_all(self, topic: str, parts: Sequence[tuple[bytes, bytes, Headers]]) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=_DELIVERY_MS,
                max_block_ms=_REACH_MS,
                allow_auto_create_topics=False,
                **self._client,
            )
        try:
            sent = [
                self._producer.send(topic, key=key, value=value, headers=list(headers)) for key, value, headers in parts
            ]
            for future in sent:
                future.get(timeout=_DELIVERY_MS / 1000)
        except KafkaError:
            # A producer that gave up a batch when its broker was killed may send nothing any more, whoever is back: its
            # numbers are no longer those that the broker waits for. What was in it is published again, by a new one.
            producer, self._producer = self._producer, None
            _end_at_once(producer)
            raise

    async def _member(self, topic: str, group: str) -> GroupMember:
        async with self._joining:
            member = self._members.get((topic, group))
            if member is None:
                await self._make(topic)
                # A group for each topic: else whoever joins to read one makes the readers of all others stop.
                consumer = await on_thread(
                    self._pool,
                    lambda: self._consumer(f"{self._place.prefix}{group}.{topic.removeprefix(self._place.prefix)}"),
                )
                member = self._members[topic, group] = GroupMember(consumer, topic)
            return member

    def _consumer(self, group: str | None) -> KafkaConsumer:
        return KafkaConsumer(
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            session_timeout_ms=_SESSION_MS,
            max_poll_interval_ms=_MAX_WORK_MS,
            **self._client,
        )

    async def _make(self, topic: str) -> None:
        """Make the topic unless it is there."""
        if topic not in self._made:
            await on_thread(self._pool, lambda: self._make_topic(topic))
            self._made.add(topic)

    def _make_topic(self, topic: str) -> None:
        admin = KafkaAdminClient(**self._client)
        try:
            if topic in admin.list_topics():
                return
            is_compacted = topic in self._compacted
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics(
                    {
                        topic: {
                            "num_partitions": 1 if is_compacted else self._place.partitions,
                            "replication_factor": self._place.replication,
                            "configs": _COMPACTED if is_compacted else _KEPT,
                        }
                    }
                )
            admin.wait_for_topics([topic])
        finally:
            admin.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say of every fault of the library that the log is away.

    Raises:
        Unavailable: The library raised.
    """
    try:
        yield
    except KafkaError as error:
        raise Unavailable("The event log is not available.", private=repr(error), retry_after_s=1.0) from error


def _end_at_once(producer: KafkaProducer) -> None:
    """End a producer and its thread, and give up what it has not sent."""
    with contextlib.suppress(KafkaError):
        producer.close(timeout=0)
    # Closing ends with the first record that was not sent, and leaves the thread, which would go on trying.
    producer._sender.force_close()  # noqa: SLF001


def _say_unreadable(record: Any, error: Unreadable) -> None:
    _log.error(
        "record_unreadable",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=str(error),
    )


def _stand(consumer: KafkaConsumer, topic: str) -> dict[TopicPartition, int]:
    """Take all partitions from their beginning; return where they end now."""
    places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    if not places:
        raise KafkaError(f"{topic} has no partitions yet")
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    return dict(consumer.end_offsets(places, timeout_ms=_REQUEST_MS))


def _reached(consumer: KafkaConsumer, stood: dict[TopicPartition, int]) -> bool:
    return all(consumer.position(place, timeout_ms=_REQUEST_MS) >= end for place, end in stood.items())


def _poll(consumer: KafkaConsumer) -> list[Any]:
    return [record for records in consumer.poll(timeout_ms=_REPLAY_SLICE_MS).values() for record in records]
