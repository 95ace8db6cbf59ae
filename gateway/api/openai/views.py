"""Vector stores, their files and batches in OpenAI's shapes. Times are seconds since 1970."""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from gateway.api.openai.requests import FileChunking
from gateway.domain.finding import Passage
from gateway.domain.keeping import Batch, Chunking, Collection, Counts, Document, DocumentState, Page

__all__ = ["STATES", "batch", "chunking", "listed", "result", "store", "store_file"]

Item = TypeVar("Item")
_IN_PROGRESS: Final = (DocumentState.RECEIVED, DocumentState.PARSING, DocumentState.CHUNKED)
# OpenAI's status of a file -> our states.
STATES: Final[dict[str, tuple[DocumentState, ...]]] = {
    "in_progress": _IN_PROGRESS,
    "completed": (DocumentState.INDEXED,),
    "failed": (DocumentState.FAILED,),
    "cancelled": (DocumentState.CANCELLED, DocumentState.DELETING),
}
_STATUS: Final = {state: status for status, states in STATES.items() for state in states}
# What "auto" means here: what the embedder was trained for.
_AUTO: Final = Chunking(220, 40)
_ERROR_CODES: Final = frozenset({"server_error", "unsupported_file", "invalid_file"})


def listed(page: Page[Item], view: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """Return a list; SDKs page until `has_more` is false."""
    data = [view(item) for item in page.items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.has_more,
    }


def chunking(asked: FileChunking | None) -> Chunking | None:
    """Return how a file is to be cut; None for the collection's way."""
    if asked is None or asked.static is None:
        return None
    return Chunking(asked.static.max_chunk_size_tokens, asked.static.chunk_overlap_tokens)


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "in_progress": counts.in_progress,
        "completed": counts.indexed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


def store(one: Collection) -> dict[str, Any]:
    """Return a vector store."""
    last_active = int(one.last_active_at.timestamp())
    expires = one.expires_after_days
    return {
        "id": one.id,
        "object": "vector_store",
        "created_at": int(one.created_at.timestamp()),
        "name": one.name,
        "usage_bytes": one.usage_bytes,
        "status": "in_progress" if one.counts.in_progress else "completed",
        "file_counts": _counts(one.counts),
        "last_active_at": last_active,
        "metadata": dict(one.metadata),
        "expires_after": {"anchor": "last_active_at", "days": expires} if expires else None,
        "expires_at": last_active + expires * 86_400 if expires else None,
        "default_access": list(one.default_principals),
    }


def store_file(one: Document) -> dict[str, Any]:
    """Return a file of a vector store."""
    error = None
    if one.state is DocumentState.FAILED:
        code = one.failure_code if one.failure_code in _ERROR_CODES else "server_error"
        error = {"code": code, "message": one.failure_reason}
    cut = one.chunking if one.chunking.max_tokens else _AUTO
    return {
        "id": one.file_id,
        "object": "vector_store.file",
        "usage_bytes": one.size_bytes,
        "created_at": int(one.created_at.timestamp()),
        "vector_store_id": one.collection_id,
        "status": _STATUS[one.state],
        "last_error": error,
        "attributes": json.loads(one.attributes_json or "{}"),
        "chunking_strategy": {
            "type": "static",
            "static": {"max_chunk_size_tokens": cut.max_tokens, "chunk_overlap_tokens": cut.overlap_tokens},
        },
        "document_id": one.id,
        "version": one.version,
        "warnings": list(one.warnings),
    }


def batch(one: Batch) -> dict[str, Any]:
    """Return a batch of files."""
    counts = one.counts
    if one.cancelled:
        status = "cancelled"
    elif counts.in_progress:
        status = "in_progress"
    else:
        # A batch whose every file failed has failed; else what could be read is searchable.
        status = "failed" if counts.failed and counts.failed == counts.total else "completed"
    return {
        "id": one.id,
        "object": "vector_store.file_batch",
        "created_at": int(one.created_at.timestamp()),
        "vector_store_id": one.collection_id,
        "status": status,
        "file_counts": _counts(counts),
    }


def result(one: Passage) -> dict[str, Any]:
    """Return a search result, with where it stands beside OpenAI's fields."""
    place = one.locator
    return {
        "file_id": one.file_id,
        "filename": one.filename,
        "score": one.score,
        "attributes": json.loads(one.attributes_json or "{}"),
        "content": [{"type": "text", "text": one.text}],
        "document_id": one.document_id,
        "version": one.version,
        "title": one.title,
        "start": one.start,
        "end": one.end,
        "page": place.page_first or None,
        "heading_path": list(place.heading_path),
        "part": place.part or None,
    }
