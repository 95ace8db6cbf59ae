"""The first tables of the ingestion room."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "batch_documents",
        sa.Column("batch_id", sa.String, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
    )
    op.create_index("batch_documents_by_document", "batch_documents", ["document_id"])
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("collection_id", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("file_ids", sa.JSON, nullable=False),
    )
    op.create_index("batches_by_collection", "batches", ["collection_id"])
    op.create_table(
        "collections",
        sa.Column("collection_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("default_principals", sa.JSON, nullable=False),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("overlap_tokens", sa.Integer, nullable=False),
        sa.Column("expires_after_days", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("last_active_at", sa.Float, nullable=False),
    )
    op.create_index("collections_by_tenant", "collections", ["tenant", "collection_id"])
    op.create_table(
        "contents",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
    )
    op.create_table(
        "deletions",
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("collection_id", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("withheld_at", sa.Float),
        sa.Column("completed_at", sa.Float),
        sa.Column("stores", sa.JSON, nullable=False),
    )
    op.create_table(
        "document_principals",
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("principal", sa.String, primary_key=True),
    )
    op.create_table(
        "documents",
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("collection_id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("live_key", sa.String),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("principals", sa.JSON, nullable=False),
        sa.Column("access_revision", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("attributes_revision", sa.BigInteger, nullable=False),
        sa.Column("newest_version", sa.Integer, nullable=False),
        sa.Column("active_version", sa.Integer, nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.UniqueConstraint("collection_id", "live_key", name="documents_by_key"),
    )
    op.create_index("documents_by_collection", "documents", ["collection_id", "document_id"])
    op.create_table(
        "files",
        sa.Column("file_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("document_id", sa.String),
    )
    op.create_index("files_by_digest", "files", ["tenant", "digest"])
    op.create_index("files_by_document", "files", ["document_id"])
    op.create_index("files_by_expiry", "files", ["expires_at"])
    op.create_index("files_by_tenant", "files", ["tenant", "file_id"])
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
        "versions",
        sa.Column("document_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("file_id", sa.String, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("names", sa.String, nullable=False),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("overlap_tokens", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("failure_code", sa.String, nullable=False),
        sa.Column("failure_reason", sa.String, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("versions_by_digest", "versions", ["tenant", "digest"])
    op.create_index("versions_by_file", "versions", ["tenant", "file_id"])
