"""The room's tables, as its migrations make them."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table

from services.chassis.events.outbox import outbox_table

__all__ = ["documents", "index_documents", "indexes", "metadata", "outbox", "versions"]

metadata: Final = MetaData()

documents: Final = Table(
    "documents",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Column("collection_id", String, nullable=False, default=""),
    Column("active_version", Integer, nullable=False, default=0),
    Column("principals", JSON, nullable=False, default=list),
    Column("access_revision", BigInteger, nullable=False, default=0),
    Column("attributes", JSON, nullable=False, default=dict),
    Column("attributes_revision", BigInteger, nullable=False, default=0),
    Column("withheld", Boolean, nullable=False, default=False),
    # A removed document stays as a row: a late fact about it must not bring it back.
    Column("removed", Boolean, nullable=False, default=False),
    Column("removed_count", Integer, nullable=False, default=0),
    Column("removal_announced", Boolean, nullable=False, default=False),
)

versions: Final = Table(
    "versions",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("file_id", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("title", String, nullable=False),
    Column("text_blob_key", String, nullable=False),
    Column("chunks_blob_key", String, nullable=False),
    Column("chunk_count", Integer, nullable=False),
)

indexes: Final = Table(
    "indexes",
    metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("model", String, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("probes", LargeBinary, nullable=False),
    # At most one is live, one is building, one is old.
    Column("state", String, nullable=False, unique=True),
    Column("since", Float, nullable=False),
    # Which process builds it, and until when nobody else may.
    Column("held_by", String, nullable=False, default=""),
    Column("held_until", Float, nullable=False, default=0.0),
)

# What an index that is being built holds of each document.
index_documents: Final = Table(
    "index_documents",
    metadata,
    Column("index_name", String, primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("access_revision", BigInteger, nullable=False),
    Column("attributes_revision", BigInteger, nullable=False),
    # Its chunks are being written at this moment: whoever removes the document waits.
    Column("writing", Boolean, nullable=False),
)

outbox: Final = outbox_table(metadata)
