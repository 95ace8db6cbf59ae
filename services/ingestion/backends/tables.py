"""The room's tables. `migrations/versions` creates the same columns."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from services.chassis.events.outbox import outbox_table
from services.chassis.jobs.table import jobs_table

__all__ = [
    "batch_documents",
    "batches",
    "collections",
    "contents",
    "deletions",
    "documents",
    "files",
    "jobs",
    "metadata",
    "outbox",
    "principals",
    "versions",
]

metadata = MetaData()

# Bytes that are kept. Whoever keeps or removes bytes holds the row, so that an upload never loses what another
# transaction removes in the same moment.
contents = Table(
    "contents",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("digest", String, primary_key=True),
)

files = Table(
    "files",
    metadata,
    Column("file_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", String, nullable=False),
    Column("media_type", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("document_id", String),
    Index("files_by_tenant", "tenant", "file_id"),
    Index("files_by_digest", "tenant", "digest"),
    Index("files_by_document", "document_id"),
    Index("files_by_expiry", "expires_at"),
)

collections = Table(
    "collections",
    metadata,
    Column("collection_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("default_principals", JSON, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("expires_after_days", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_active_at", Float, nullable=False),
    Index("collections_by_tenant", "tenant", "collection_id"),
)

documents = Table(
    "documents",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("collection_id", String, nullable=False),
    Column("key", String, nullable=False),
    # The key while the document lives; NULL while it is deleted, so that the key is free at once.
    Column("live_key", String),
    Column("owner", String, nullable=False),
    Column("principals", JSON, nullable=False),
    Column("access_revision", BigInteger, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("attributes_revision", BigInteger, nullable=False),
    Column("newest_version", Integer, nullable=False),
    Column("active_version", Integer, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("collection_id", "live_key", name="documents_by_key"),
    Index("documents_by_collection", "collection_id", "document_id"),
)

# The access lists once more, one row for each principal, to search by.
principals = Table(
    "document_principals",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("principal", String, primary_key=True),
)

versions = Table(
    "versions",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("file_id", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", String, nullable=False),
    Column("title", String, nullable=False),
    # Filename and title as they are searched: without case, in every script.
    Column("names", String, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("failure_code", String, nullable=False),
    Column("failure_reason", String, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("versions_by_file", "tenant", "file_id"),
    Index("versions_by_digest", "tenant", "digest"),
)

deletions = Table(
    "deletions",
    metadata,
    Column("document_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("collection_id", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("withheld_at", Float),
    Column("completed_at", Float),
    Column("stores", JSON, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("collection_id", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("file_ids", JSON, nullable=False),
    Index("batches_by_collection", "collection_id"),
)

batch_documents = Table(
    "batch_documents",
    metadata,
    Column("batch_id", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Index("batch_documents_by_document", "document_id"),
)

jobs = jobs_table(metadata)
outbox = outbox_table(metadata)
