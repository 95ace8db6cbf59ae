"""The first tables of the finetuning room."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("lease_until", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("traceparent", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("jobs_by_key", "jobs", ["key"])
    op.create_index("jobs_by_state", "jobs", ["state", "not_before"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("occurred_at", sa.DateTime, nullable=False),
        sa.Column("traceparent", sa.String, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("added_at", sa.Float, nullable=False),
    )
    op.create_table(
        "tuning_jobs",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("queued_at", sa.Float, nullable=False),
        sa.Column("waits_for", sa.String, nullable=False),
        sa.Column("has_notes", sa.Boolean, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("tuning_jobs_by_tenant", "tuning_jobs", ["tenant", "job_id"])
    op.create_index("tuning_jobs_by_status", "tuning_jobs", ["status"])
    op.create_index("tuning_jobs_by_waits_for", "tuning_jobs", ["waits_for"])
    op.create_table(
        "tuning_events",
        sa.Column("event_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("tuning_events_by_job", "tuning_events", ["job_id", "event_id"])
    op.create_table(
        "checkpoints",
        sa.Column("checkpoint_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("checkpoints_by_job", "checkpoints", ["job_id", "checkpoint_id"])
    op.create_table(
        "adapters",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("suffix", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("adapters_by_suffix", "adapters", ["tenant", "suffix", "number"])
    op.create_index("adapters_by_job", "adapters", ["job_id"])
    op.create_table(
        "adapter_sources",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("source_id", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
    )
    op.create_index("adapter_sources_by_source", "adapter_sources", ["tenant", "kind", "source_id"])
    op.create_table(
        "withdrawals",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("principals", sa.JSON, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "withdrawn_feedback",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("feedback_id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("alias", sa.String, primary_key=True),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_table(
        "promotions",
        sa.Column("promotion_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("alias", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("promotions_by_alias", "promotions", ["tenant", "alias", "promotion_id"])
    op.create_table(
        "counted",
        sa.Column("promotion_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
    )
    op.create_table(
        "datasets",
        sa.Column("dataset_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
    )
    op.create_index("datasets_by_tenant", "datasets", ["tenant", "dataset_id"])
    op.create_table(
        "judgements",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("feedback_id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("collection_ids", sa.JSON, nullable=False),
        sa.Column("sources", sa.JSON, nullable=False),
        sa.Column("blob_key", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("last_delivery", sa.String, nullable=False),
    )
    op.create_index("webhooks_by_tenant", "webhooks", ["tenant", "webhook_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("event_id", sa.String, primary_key=True),
        sa.Column("webhook_id", sa.String, primary_key=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
    )
    op.create_index("webhook_deliveries_by_state", "webhook_deliveries", ["state", "due_at"])
    op.create_index("webhook_deliveries_by_webhook", "webhook_deliveries", ["webhook_id"])


def downgrade() -> None:
    """Drop every table."""
    for table in (
        "webhook_deliveries",
        "webhooks",
        "judgements",
        "datasets",
        "counted",
        "promotions",
        "aliases",
        "withdrawn_feedback",
        "withdrawals",
        "adapter_sources",
        "adapters",
        "checkpoints",
        "tuning_events",
        "tuning_jobs",
        "outbox",
        "jobs",
    ):
        op.drop_table(table)
