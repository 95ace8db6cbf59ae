"""Judgements of answers, comparisons, blobs that belong to nothing, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("rater", sa.String, nullable=False),
        sa.Column("family", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("asked_model", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blob_key", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("tenant", "subject_id", "rater", "family", name="feedback_once"),
    )
    op.create_index("feedback_by_tenant", "feedback", ["tenant", "id"])
    op.create_table(
        "feedback_collections",
        sa.Column("feedback_id", sa.String, sa.ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("collection_id", sa.String, primary_key=True),
    )
    op.create_index("feedback_by_collection", "feedback_collections", ["collection_id", "feedback_id"])
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("comparisons_by_tenant", "comparisons", ["tenant", "id"])
    op.create_table(
        "loose_blobs",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )
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


def downgrade() -> None:
    """Remove the tables."""
    for name in ("outbox", "loose_blobs", "comparisons", "feedback_collections", "feedback"):
        op.drop_table(name)
