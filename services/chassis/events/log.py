"""The event log as rooms see it: envelopes on topics, read by groups or replayed whole."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from services.chassis.errors import InvalidInput
from services.chassis.ids import new_id
from services.chassis.settings import EventSettings
from services.chassis.telemetry import current_traceparent

__all__ = ["Envelope", "EventLog", "Record", "dead_letter_topic", "new_envelope", "open_event_log"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A fact with what is needed to deliver it. Ids and blob keys only: logs are kept, copied and hard to erase.

    Attributes:
        event_id: Unique id.
        tenant: Tenant the fact belongs to.
        type: What happened, in the past tense.
        key: Facts with the same key keep their order, and of a compacted topic the newest is kept. Keys of different
            tenants are different keys.
        occurred_at: When it happened, UTC.
        traceparent: W3C trace context of the work that caused it; empty for none.
        payload: The fact as a serialised message of the topic's language.
    """

    event_id: str
    tenant: str
    type: str
    key: str
    occurred_at: datetime
    traceparent: str
    payload: bytes


def new_envelope(*, tenant: str, type: str, key: str, payload: bytes) -> Envelope:  # noqa: A002  the field's name
    """Return an envelope for something that happened now, within the current trace."""
    return Envelope(
        event_id=new_id("evt_"),
        tenant=tenant,
        type=type,
        key=key,
        occurred_at=datetime.now(UTC),
        traceparent=current_traceparent(),
        payload=payload,
    )


@dataclass(frozen=True, slots=True)
class Record:
    """An envelope at its place in a topic."""

    topic: str
    partition: int
    offset: int
    envelope: Envelope


class EventLog(Protocol):
    """A durable log. Delivery is at least once, in order for each key."""

    async def publish(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        """Append envelopes; they are durable when this returns.

        Raises:
            Unavailable: The log is away.
        """
        ...

    async def read(self, topic: str, group: str, *, limit: int = 1, wait_s: float = 5.0) -> list[Record]:
        """Return the records after the group's last commit, waiting up to `wait_s` for the first.

        Raises:
            Unavailable: The log is away.
        """
        ...

    async def commit(self, group: str, record: Record) -> None:
        """Note that the group is done with everything up to and including `record` in its partition."""
        ...

    def replay(self, topic: str, *, caught_up: asyncio.Event | None = None) -> AsyncIterator[Record]:
        """Yield the whole topic, of each key of each tenant at least the newest record, then go on; no group.

        `caught_up` is set when everything that stood in the topic at the start was handed out and the reader asks for
        more: what it has done so far rests on the whole topic.

        Raises:
            Unavailable: The log is away.
        """
        ...

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Put a record that can never be handled on `<topic>.dlt`, with the reason."""
        ...

    async def lag(self, topic: str, group: str) -> int:
        """Return the number of records that the group has not committed."""
        ...

    async def close(self) -> None:
        """Let go of the log."""
        ...


def dead_letter_topic(topic: str) -> str:
    """Return where a topic's unhandleable records go."""
    return f"{topic}.dlt"


def open_event_log(url: str, *, compacted: Iterable[str] = (), access: EventSettings | None = None) -> EventLog:
    """Return the log that `url` names.

    Args:
        url: `sqlite:///PATH`, `kafka://HOST:PORT[,HOST:PORT…][?partitions=N&replication=N&prefix=TEXT]` (`KafkaPlace`), or
            `kafkas://…` for TLS.
        compacted: Topics of which only the newest record of each key is wanted; every room that uses one says so.
        access: How to sign in to Kafka, and with which certificates; None for an open one.

    Raises:
        InvalidInput: The scheme is not offered, the rest cannot be read, or the settings do not go together.
    """
    scheme, _, rest = url.partition("://")
    match scheme:
        case "sqlite":
            from services.chassis.events.sqlite import SqliteEventLog  # noqa: PLC0415  only the chosen back end

            return SqliteEventLog(rest.removeprefix("/"))
        case "kafka" | "kafkas":
            from services.chassis.events.kafka import KafkaEventLog  # noqa: PLC0415  the same
            from services.chassis.events.kafka_access import kafka_access  # noqa: PLC0415  the same
            from services.chassis.events.kafka_records import kafka_place  # noqa: PLC0415  the same

            security = kafka_access(access, tls=scheme == "kafkas")
            return KafkaEventLog(kafka_place(rest), compacted=compacted, security=security)
        case _:
            raise InvalidInput(f"events_url: {scheme!r} is not offered; use sqlite:///PATH or kafka://HOST:PORT.")
