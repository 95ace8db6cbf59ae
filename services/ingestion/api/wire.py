"""The room's language (brain.ingestion.v1) to the domain's words and back."""

from collections.abc import AsyncIterator
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from brain.ingestion.v1 import batch_pb2, collection_pb2, document_pb2, file_pb2
from brain.types.v1 import locator_pb2
from services.chassis.errors import InvalidInput
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.collections import Collection, CollectionUse, checked_chunking
from services.ingestion.domain.deletion import Deletion
from services.ingestion.domain.documents import Document, DocumentState, Page, attributes_json
from services.ingestion.domain.files import File
from services.ingestion.domain.text import Chunking, Section
from services.ingestion.usecases.files import page_of

__all__ = [
    "PART_BYTES",
    "batch_message",
    "chunking_of",
    "collection_message",
    "deletion_message",
    "document_message",
    "file_message",
    "header_and_parts",
    "page_in",
    "section_message",
    "state_of",
]

# Largest part of an upload or a download.
PART_BYTES: Final = 1024 * 1024

_STATES: Final = {
    DocumentState.RECEIVED: document_pb2.DOCUMENT_STATE_RECEIVED,
    DocumentState.PARSING: document_pb2.DOCUMENT_STATE_PARSING,
    DocumentState.CHUNKED: document_pb2.DOCUMENT_STATE_CHUNKED,
    DocumentState.INDEXED: document_pb2.DOCUMENT_STATE_INDEXED,
    DocumentState.FAILED: document_pb2.DOCUMENT_STATE_FAILED,
    DocumentState.CANCELLED: document_pb2.DOCUMENT_STATE_CANCELLED,
    DocumentState.DELETING: document_pb2.DOCUMENT_STATE_DELETING,
}
_BY_NUMBER: Final = {number: state for state, number in _STATES.items()}

# The messages that uploads are streamed in.
Upload = TypeVar("Upload", file_pb2.UploadFileRequest, document_pb2.UploadDocumentRequest)


async def header_and_parts(messages: AsyncIterator[Upload]) -> tuple[Upload, AsyncIterator[bytes]]:
    """Return the message with the header that an upload begins with, and the bytes that follow.

    Raises:
        InvalidInput: The first message is not the header.
    """
    try:
        first = await anext(messages)
    except StopAsyncIteration as end:
        raise InvalidInput("The upload is empty; it begins with a header.", param="header") from end
    if not first.HasField("header"):
        raise InvalidInput("The first message of an upload is its header.", param="header")
    return first, _parts(messages)


async def _parts(messages: AsyncIterator[Upload]) -> AsyncIterator[bytes]:
    async for message in messages:
        if not message.HasField("data"):
            raise InvalidInput("After the header an upload holds bytes only.", param="data")
        if len(message.data) > PART_BYTES:
            raise InvalidInput(f"data: {len(message.data)} bytes in one message; at most {PART_BYTES}.", param="data")
        yield message.data


def page_in(
    request: collection_pb2.ListCollectionsRequest | document_pb2.ListDocumentsRequest, *, largest: int
) -> Page:
    """Return the page that a request for a list asks for.

    Raises:
        InvalidInput: The limit is larger than allowed.
    """
    return page_of(
        limit=request.limit,
        default=20,
        largest=largest,
        after=request.after,
        before=request.before,
        ascending=request.ascending,
    )


def chunking_of(message: collection_pb2.Chunking) -> Chunking:
    """Return how to cut.

    Raises:
        InvalidInput: Outside what is allowed.
    """
    return checked_chunking(message.max_tokens, message.overlap_tokens)


def state_of(number: int) -> DocumentState:
    """Return the state that a number of the wire stands for.

    Raises:
        InvalidInput: There is no such state.
    """
    state = _BY_NUMBER.get(document_pb2.DocumentState.ValueType(number))
    if state is None:
        raise InvalidInput(f"states: {number} is not a document state.", param="states")
    return state


def file_message(file: File) -> file_pb2.File:
    """Return a file's record."""
    return file_pb2.File(
        file_id=file.file_id,
        filename=file.filename,
        purpose=file.purpose.value,
        size_bytes=file.size_bytes,
        digest=file.digest,
        created_at=_timestamp(file.created_at),
        expires_at=_timestamp(file.expires_at),
        media_type=file.media_type,
    )


def collection_message(collection: Collection) -> collection_pb2.Collection:
    """Return a collection's record."""
    return collection_pb2.Collection(
        collection_id=collection.collection_id,
        name=collection.name,
        owner=collection.owner,
        created_at=_timestamp(collection.created_at),
        last_active_at=_timestamp(collection.last_active_at),
        metadata=collection.metadata,
        default_principals=collection.default_principals,
        chunking=_chunking(collection.chunking),
        expires_after_days=collection.expires_after_days,
        counts=_counts(collection.use),
        usage_bytes=collection.use.usage_bytes,
    )


def document_message(document: Document) -> document_pb2.Document:
    """Return a document's record."""
    newest = document.newest
    return document_pb2.Document(
        document_id=document.document_id,
        collection_id=document.collection_id,
        key=document.key,
        file_id=newest.file_id,
        filename=newest.filename,
        title=newest.title,
        version=newest.number,
        active_version=document.active_version,
        state=_STATES[document.state],
        failure_code=newest.failure.code.value if newest.failure else "",
        failure_reason=newest.failure.reason if newest.failure else "",
        digest=newest.digest,
        size_bytes=newest.size_bytes,
        media_type=newest.media_type,
        owner=document.owner,
        principals=document.principals,
        attributes_json=attributes_json(document.attributes),
        chunking=_chunking(newest.chunking),
        chunk_count=newest.chunk_count,
        created_at=_timestamp(document.created_at),
        updated_at=_timestamp(document.updated_at),
        warnings=newest.warnings,
    )


def deletion_message(deletion: Deletion) -> document_pb2.Deletion:
    """Return the receipt of a deletion."""
    return document_pb2.Deletion(
        document_id=deletion.document_id,
        withheld_at=_timestamp(deletion.withheld_at),
        completed_at=_timestamp(deletion.completed_at),
        stores=[
            document_pb2.StoreCount(
                store=entry.store, removed=entry.removed, remaining=entry.remaining, counted=entry.counted
            )
            for entry in deletion.stores
        ],
    )


def section_message(section: Section) -> document_pb2.TextSection:
    """Return a stretch of text with its place."""
    return document_pb2.TextSection(
        start=section.start,
        end=section.end,
        locator=locator_pb2.Locator(
            page_first=section.locator.page_first,
            page_last=section.locator.page_last,
            heading_path=section.locator.heading_path,
            part=section.locator.part,
        ),
    )


def batch_message(batch: FileBatch) -> batch_pb2.FileBatch:
    """Return a batch with its counts."""
    return batch_pb2.FileBatch(
        batch_id=batch.batch_id,
        collection_id=batch.collection_id,
        created_at=_timestamp(batch.created_at),
        counts=_counts(batch.use),
        cancelled=batch.cancelled,
        file_ids=batch.file_ids,
    )


def _chunking(chunking: Chunking) -> collection_pb2.Chunking:
    return collection_pb2.Chunking(max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)


def _counts(use: CollectionUse) -> collection_pb2.DocumentCounts:
    return collection_pb2.DocumentCounts(
        in_progress=use.in_progress, indexed=use.indexed, failed=use.failed, cancelled=use.cancelled
    )


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))
