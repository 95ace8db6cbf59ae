"""Envelopes as rows: what the outbox and the log in SQLite keep of each."""

from datetime import UTC
from typing import Any

from sqlalchemy import Column, DateTime, LargeBinary, Row, String

from services.chassis.events.log import Envelope

__all__ = ["envelope_columns", "envelope_of", "envelope_row"]


def envelope_columns() -> list[Column[Any]]:
    """Return the columns of a table that keeps envelopes: the topic, then the envelope's own."""
    return [
        Column("topic", String, nullable=False),
        Column("event_id", String, nullable=False),
        Column("tenant", String, nullable=False),
        Column("type", String, nullable=False),
        Column("key", String, nullable=False),
        Column("occurred_at", DateTime, nullable=False),
        Column("traceparent", String, nullable=False),
        Column("payload", LargeBinary, nullable=False),
    ]


def envelope_row(topic: str, envelope: Envelope) -> dict[str, Any]:
    """Return an envelope as a row; the time loses its zone, which is always UTC."""
    return {
        "topic": topic,
        "event_id": envelope.event_id,
        "tenant": envelope.tenant,
        "type": envelope.type,
        "key": envelope.key,
        "occurred_at": envelope.occurred_at.astimezone(UTC).replace(tzinfo=None),
        "traceparent": envelope.traceparent,
        "payload": envelope.payload,
    }


def envelope_of(row: Row[Any]) -> Envelope:
    """Return a row as an envelope."""
    return Envelope(
        event_id=row.event_id,
        tenant=row.tenant,
        type=row.type,
        key=row.key,
        occurred_at=row.occurred_at.replace(tzinfo=UTC),
        traceparent=row.traceparent,
        payload=row.payload,
    )
