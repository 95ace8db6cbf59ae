"""Ingestion's messages as our words."""

from typing import Final

from brain.ingestion.v1 import batch_pb2, collection_pb2, document_pb2, file_pb2
from gateway.backends.wire import moment, moment_or_none
from gateway.domain.keeping import (
    Batch,
    Chunking,
    Collection,
    Counts,
    Deletion,
    Document,
    DocumentState,
    StoreCount,
    StoredFile,
)

__all__ = ["STATE_NUMBER", "batch", "chunking_to", "collection", "deletion", "document", "file"]

STATE: Final = {
    document_pb2.DOCUMENT_STATE_UNSPECIFIED: DocumentState.RECEIVED,
    document_pb2.DOCUMENT_STATE_RECEIVED: DocumentState.RECEIVED,
    document_pb2.DOCUMENT_STATE_PARSING: DocumentState.PARSING,
    document_pb2.DOCUMENT_STATE_CHUNKED: DocumentState.CHUNKED,
    document_pb2.DOCUMENT_STATE_INDEXED: DocumentState.INDEXED,
    document_pb2.DOCUMENT_STATE_FAILED: DocumentState.FAILED,
    document_pb2.DOCUMENT_STATE_CANCELLED: DocumentState.CANCELLED,
    document_pb2.DOCUMENT_STATE_DELETING: DocumentState.DELETING,
}
STATE_NUMBER: Final = {state: number for number, state in STATE.items()}


def chunking_to(chunking: Chunking | None) -> collection_pb2.Chunking | None:
    """Return how to cut, for the wire."""
    if chunking is None:
        return None
    return collection_pb2.Chunking(max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)


def chunking_from(value: collection_pb2.Chunking) -> Chunking:
    """Return how something is cut."""
    return Chunking(value.max_tokens, value.overlap_tokens)


def counts(value: collection_pb2.DocumentCounts) -> Counts:
    """Return documents by state."""
    return Counts(value.in_progress, value.indexed, value.failed, value.cancelled)


def file(value: file_pb2.File) -> StoredFile:
    """Return a file."""
    return StoredFile(
        id=value.file_id,
        filename=value.filename,
        purpose=value.purpose,
        size_bytes=value.size_bytes,
        digest=value.digest,
        created_at=moment(value.created_at),
        expires_at=moment_or_none(value.expires_at),
        media_type=value.media_type,
    )


def collection(value: collection_pb2.Collection) -> Collection:
    """Return a collection."""
    return Collection(
        id=value.collection_id,
        name=value.name,
        owner=value.owner,
        created_at=moment(value.created_at),
        last_active_at=moment(value.last_active_at),
        metadata=dict(value.metadata),
        default_principals=tuple(value.default_principals),
        chunking=chunking_from(value.chunking),
        expires_after_days=value.expires_after_days,
        counts=counts(value.counts),
        usage_bytes=value.usage_bytes,
    )


def document(value: document_pb2.Document) -> Document:
    """Return a document."""
    return Document(
        id=value.document_id,
        collection_id=value.collection_id,
        key=value.key,
        file_id=value.file_id,
        filename=value.filename,
        title=value.title,
        version=value.version,
        active_version=value.active_version,
        state=STATE[value.state],
        failure_code=value.failure_code,
        failure_reason=value.failure_reason,
        digest=value.digest,
        size_bytes=value.size_bytes,
        media_type=value.media_type,
        owner=value.owner,
        principals=tuple(value.principals),
        attributes_json=value.attributes_json,
        chunking=chunking_from(value.chunking),
        chunk_count=value.chunk_count,
        created_at=moment(value.created_at),
        updated_at=moment(value.updated_at),
        warnings=tuple(value.warnings),
    )


def deletion(value: document_pb2.Deletion) -> Deletion:
    """Return the receipt of a deletion."""
    return Deletion(
        value.document_id,
        moment(value.withheld_at),
        moment_or_none(value.completed_at),
        tuple(StoreCount(one.store, one.removed, one.remaining, one.counted) for one in value.stores),
    )


def batch(value: batch_pb2.FileBatch) -> Batch:
    """Return a batch."""
    return Batch(
        id=value.batch_id,
        collection_id=value.collection_id,
        created_at=moment(value.created_at),
        counts=counts(value.counts),
        cancelled=value.cancelled,
        file_ids=tuple(value.file_ids),
    )
