"""The room's tables."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from services.chassis.events.outbox import outbox_table

__all__ = [
    "comparisons",
    "conversations",
    "feedback",
    "feedback_collections",
    "loose_blobs",
    "metadata",
    "outbox",
    "receipts",
    "turns",
]

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Index("conversations_by_owner", "tenant", "owner", "id"),
)

turns = Table(
    "turns",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("conversation_id", ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("role", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("receipt_id", String, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("conversation_id", String, nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# `subject_id` is the receipt or the comparison; of one family (thumb, edit, ranking) a rater has one for each subject.
feedback = Table(
    "feedback",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("subject_id", String, nullable=False),
    Column("rater", String, nullable=False),
    Column("family", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("asked_model", String, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("blob_key", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("tenant", "subject_id", "rater", "family", name="feedback_once"),
    Index("feedback_by_tenant", "tenant", "id"),
)

feedback_collections = Table(
    "feedback_collections",
    metadata,
    Column("feedback_id", ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True),
    Column("collection_id", String, primary_key=True),
    Index("feedback_by_collection", "collection_id", "feedback_id"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("comparisons_by_tenant", "tenant", "id"),
)

loose_blobs = Table(
    "loose_blobs",
    metadata,
    Column("key", String, primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
)

outbox = outbox_table(metadata)
