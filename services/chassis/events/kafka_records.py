"""Envelopes as Kafka records, and the settings of a Kafka URL."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from services.chassis.errors import InvalidInput
from services.chassis.events.log import Envelope

__all__ = ["KafkaPlace", "Unreadable", "envelope_from", "kafka_place", "record_parts", "with_reason"]

_HEADERS: Final = ("event_id", "tenant", "type", "key", "occurred_at", "traceparent")
_REASON: Final = "reason"
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")
_DEFAULT_PORT: Final = 9092
_MAX_PARTITIONS: Final = 1_000
_MAX_REPLICATION: Final = 9

Headers = list[tuple[str, bytes]]


class Unreadable(Exception):
    """A record that is no envelope; whoever wrote it was not one of ours."""


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """Where the brokers are and how topics are made that are not there yet.

    Attributes:
        servers: `host:port` of some brokers.
        partitions: Of a new topic: as many readers of one group can share its work. A compacted topic has one.
        replication: Copies of each record of a new topic.
        prefix: What the names of topics and groups begin with, where several installations share brokers.
    """

    servers: tuple[str, ...]
    partitions: int
    replication: int
    prefix: str = ""


def kafka_place(rest: str) -> KafkaPlace:
    """Return what `kafka://…` says: `HOST:PORT[,HOST:PORT…][?partitions=N&replication=N&prefix=TEXT]`.

    Raises:
        InvalidInput: It cannot be read; the message names what is wrong and what is allowed.
    """
    parts = urlsplit(f"//{rest}")
    servers = tuple(_server(name) for name in parts.netloc.split(",") if name)
    if not servers or parts.path not in {"", "/"}:
        raise InvalidInput("events_url: use kafka://HOST:PORT[,HOST:PORT…][?partitions=N&replication=N&prefix=TEXT].")
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(said) - {"partitions", "replication", "prefix"})
    if unknown:
        raise InvalidInput(f"events_url: {unknown[0]!r} is not one of partitions, replication, prefix.")
    prefix = said.get("prefix", "")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidInput(
            f"events_url: prefix is {prefix!r}; use up to 100 letters, digits, dots, dashes, underscores."
        )
    return KafkaPlace(
        servers,
        partitions=_number(said, "partitions", default=6, most=_MAX_PARTITIONS),
        replication=_number(said, "replication", default=1, most=_MAX_REPLICATION),
        prefix=prefix,
    )


def _server(name: str) -> str:
    host, colon, port = name.rpartition(":")
    if not colon:
        host, port = name, str(_DEFAULT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InvalidInput(f"events_url: {name!r} is no HOST:PORT.")
    return f"{host}:{port}"


def _number(said: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    value = said.get(name, str(default))
    if not value.isdecimal() or not 1 <= int(value) <= most:
        raise InvalidInput(f"events_url: {name} is {value!r}; use a number from 1 to {most}.")
    return int(value)


def record_parts(envelope: Envelope) -> tuple[bytes, bytes, Headers]:
    """Return key, value and headers of the record that carries `envelope`.

    The record's key holds the tenant, too: partitions and compaction go by it.
    """
    headers = {
        "event_id": envelope.event_id,
        "tenant": envelope.tenant,
        "type": envelope.type,
        "key": envelope.key,
        "occurred_at": envelope.occurred_at.isoformat(),
        "traceparent": envelope.traceparent,
    }
    key = f"{envelope.tenant}\0{envelope.key}".encode()
    return key, envelope.payload, [(name, value.encode()) for name, value in headers.items()]


def with_reason(headers: Sequence[tuple[str, bytes]], reason: str) -> Headers:
    """Return the headers of a dead letter."""
    return [*headers, (_REASON, reason.encode())]


def envelope_from(record: Any) -> Envelope:
    """Return the envelope that a consumed record carries.

    Raises:
        Unreadable: A header is missing or damaged.
    """
    try:
        held = {name: value.decode() for name, value in record.headers if name in _HEADERS}
        return Envelope(
            event_id=held["event_id"],
            tenant=held["tenant"],
            type=held["type"],
            key=held["key"],
            occurred_at=_time(held["occurred_at"]),
            traceparent=held["traceparent"],
            payload=record.value or b"",
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise Unreadable(repr(error)) from error


def _time(text: str) -> datetime:
    """Return a time with its zone; one without is refused."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("occurred_at names no zone")
    return found
