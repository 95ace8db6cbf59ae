"""The tables of addresses and deliveries. The room's migration creates the same columns."""

from dataclasses import dataclass

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table

__all__ = ["WebhookTables", "webhook_tables"]


@dataclass(frozen=True, slots=True)
class WebhookTables:
    """Both tables."""

    webhooks: Table
    deliveries: Table


def webhook_tables(metadata: MetaData) -> WebhookTables:
    """Return the tables as part of a room's `metadata`."""
    webhooks = Table(
        "webhooks",
        metadata,
        Column("webhook_id", String, primary_key=True),
        Column("tenant", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("url", String, nullable=False),
        Column("events", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("last_delivery", String, nullable=False),
        Index("webhooks_by_tenant", "tenant", "webhook_id"),
    )
    deliveries = Table(
        "webhook_deliveries",
        metadata,
        Column("event_id", String, primary_key=True),
        Column("webhook_id", String, primary_key=True),
        Column("event", String, nullable=False),
        Column("job_id", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("state", String, nullable=False),
        # Grows with every hand-out: what a holder of an older one then writes is refused.
        Column("attempt", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Index("webhook_deliveries_by_state", "state", "due_at"),
        Index("webhook_deliveries_by_webhook", "webhook_id"),
    )
    return WebhookTables(webhooks, deliveries)
