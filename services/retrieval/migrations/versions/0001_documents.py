"""Documents, their versions, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "documents",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("collection_id", sa.String, nullable=False),
        sa.Column("active_version", sa.Integer, nullable=False),
        sa.Column("principals", sa.JSON, nullable=False),
        sa.Column("access_revision", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("attributes_revision", sa.BigInteger, nullable=False),
        sa.Column("withheld", sa.Boolean, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("removed_count", sa.Integer, nullable=False),
        sa.Column("removal_announced", sa.Boolean, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.String, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("text_blob_key", sa.String, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
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
    """Drop the tables."""
    for name in ("outbox", "versions", "documents"):
        op.drop_table(name)
