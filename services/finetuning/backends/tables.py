"""The room's tables. Records are kept whole as JSON, beside the columns that they are looked up by."""

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table

from services.chassis.events.outbox import outbox_table
from services.chassis.jobs.table import jobs_table
from services.finetuning.backends.webhook_tables import webhook_tables

__all__ = [
    "METADATA",
    "adapter_sources",
    "adapters",
    "aliases",
    "checkpoints",
    "counted",
    "datasets",
    "events",
    "jobs",
    "judgements",
    "outbox",
    "promotions",
    "tuning_jobs",
    "webhooks",
    "withdrawals",
    "withdrawn_feedback",
]

METADATA: Final = MetaData()
jobs: Final = jobs_table(METADATA)
outbox: Final = outbox_table(METADATA)
webhooks: Final = webhook_tables(METADATA)

tuning_jobs: Final = Table(
    "tuning_jobs",
    METADATA,
    Column("job_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("status", String, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("waits_for", String, nullable=False),
    Column("has_notes", Boolean, nullable=False),
    Column("record", JSON, nullable=False),
    Index("tuning_jobs_by_tenant", "tenant", "job_id"),
    Index("tuning_jobs_by_status", "status"),
    Index("tuning_jobs_by_waits_for", "waits_for"),
)
events: Final = Table(
    "tuning_events",
    METADATA,
    Column("event_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("record", JSON, nullable=False),
    Index("tuning_events_by_job", "job_id", "event_id"),
)
checkpoints: Final = Table(
    "checkpoints",
    METADATA,
    Column("checkpoint_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("record", JSON, nullable=False),
    Index("checkpoints_by_job", "job_id", "checkpoint_id"),
)
adapters: Final = Table(
    "adapters",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("suffix", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("record", JSON, nullable=False),
    Index("adapters_by_suffix", "tenant", "suffix", "number"),
    Index("adapters_by_job", "job_id"),
)
adapter_sources: Final = Table(
    "adapter_sources",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("source_id", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Index("adapter_sources_by_source", "tenant", "kind", "source_id"),
)
withdrawals: Final = Table(
    "withdrawals",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Column("deleted", Boolean, nullable=False),
    Column("principals", JSON, nullable=False),
    Column("at", Float, nullable=False),
)
withdrawn_feedback: Final = Table(
    "withdrawn_feedback",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("feedback_id", String, primary_key=True),
    Column("at", Float, nullable=False),
)
aliases: Final = Table(
    "aliases",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("record", JSON, nullable=False),
)
promotions: Final = Table(
    "promotions",
    METADATA,
    Column("promotion_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("state", String, nullable=False),
    Column("record", JSON, nullable=False),
    Index("promotions_by_alias", "tenant", "alias", "promotion_id"),
)
counted: Final = Table(
    "counted",
    METADATA,
    Column("promotion_id", String, primary_key=True),
    Column("key", String, primary_key=True),
)
datasets: Final = Table(
    "datasets",
    METADATA,
    Column("dataset_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("record", JSON, nullable=False),
    Index("datasets_by_tenant", "tenant", "dataset_id"),
)
judgements: Final = Table(
    "judgements",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("feedback_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("collection_ids", JSON, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("blob_key", String, nullable=False),
    Column("at", Float, nullable=False),
)
