"""Domain objects as the JSON of the native API: snake case, RFC 3339 times, null where there is nothing."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson

from gateway.domain.asking import (
    Abstention,
    CitationMade,
    Conversation,
    Evidence,
    Locator,
    Receipt,
    ReceiptSource,
    Sampling,
    Source,
)
from gateway.domain.finding import Passage, ScoreParts
from gateway.domain.identity import ApiKey, AuditEntry
from gateway.domain.keeping import Collection, Deletion, Document, DocumentText, Page

__all__ = [
    "audit_entry",
    "citation",
    "collection",
    "conversation",
    "deletion",
    "document",
    "document_text",
    "key",
    "page",
    "passage",
    "receipt",
    "receipt_source",
]

Item = TypeVar("Item")


def page(found: Page[Item], view: Callable[[Item], dict[str, Any]], identity: Callable[[Item], str]) -> dict[str, Any]:
    """Return a stretch of a list; `next` is what `after` takes for the following one."""
    following = identity(found.items[-1]) if found.has_more and found.items else None
    return {"data": [view(item) for item in found.items], "has_more": found.has_more, "next": following}


def document(one: Document) -> dict[str, Any]:
    """Return a document."""
    failure = {"code": one.failure_code, "reason": one.failure_reason} if one.failure_code else None
    return {
        "id": one.id,
        "collection": one.collection_id,
        "key": one.key,
        "file_id": one.file_id,
        "filename": one.filename,
        "title": one.title,
        "version": one.version,
        "active_version": one.active_version or None,
        "state": one.state.value,
        "failure": failure,
        "warnings": list(one.warnings),
        "digest": one.digest,
        "size_bytes": one.size_bytes,
        "media_type": one.media_type,
        "owner": one.owner,
        "access": list(one.principals),
        "attributes": _object(one.attributes_json),
        "chunks": one.chunk_count,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }


def _object(text: str) -> Any:
    return orjson.loads(text) if text else {}


def document_text(one: DocumentText) -> dict[str, Any]:
    """Return a stored text with its sections; offsets count code points."""
    sections = [{"start": part.start, "end": part.end, **locator(part.locator)} for part in one.sections]
    return {"document": one.document_id, "version": one.version, "text": one.text, "sections": sections}


def locator(place: Locator) -> dict[str, Any]:
    """Return where a piece stands in its source."""
    return {
        "page": place.page_first or None,
        "page_last": place.page_last or None,
        "heading_path": list(place.heading_path),
        "part": place.part or None,
    }


def deletion(one: Deletion) -> dict[str, Any]:
    """Return the receipt of a deletion; complete when every store has been counted to zero."""
    return {
        "document": one.document_id,
        "state": "deleting" if one.completed_at is None else "deleted",
        "withheld_at": one.withheld_at,
        "completed_at": one.completed_at,
        "stores": [
            {"store": part.store, "removed": part.removed, "remaining": part.remaining, "counted": part.counted}
            for part in one.stores
        ],
    }


def collection(one: Collection) -> dict[str, Any]:
    """Return a collection with its counts."""
    counts = one.counts
    return {
        "id": one.id,
        "name": one.name,
        "owner": one.owner,
        "created_at": one.created_at,
        "last_active_at": one.last_active_at,
        "metadata": dict(one.metadata),
        "default_access": list(one.default_principals),
        "chunking": {"max_tokens": one.chunking.max_tokens, "overlap_tokens": one.chunking.overlap_tokens},
        "expires_after_days": one.expires_after_days or None,
        "documents": {
            "in_progress": counts.in_progress,
            "indexed": counts.indexed,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "total": counts.total,
        },
        "usage_bytes": one.usage_bytes,
    }


def conversation(one: Conversation) -> dict[str, Any]:
    """Return a conversation; lists leave the turns out."""
    turns = [
        {
            "role": turn.role,
            "content": turn.content,
            "receipt_id": turn.receipt_id or None,
            "created_at": turn.created_at,
        }
        for turn in one.turns
    ]
    view = {"id": one.id, "title": one.title, "created_at": one.created_at, "updated_at": one.updated_at}
    return view | ({"turns": turns} if turns else {})


def source(one: Source) -> dict[str, Any]:
    """Return a passage or inline document that citations point to by its number."""
    return {
        "number": one.number,
        "document": one.document_id,
        "version": one.version or None,
        "collection": one.collection_id or None,
        "file_id": one.file_id or None,
        "filename": one.filename or None,
        "title": one.title or None,
        **locator(one.locator),
        "start": one.start,
        "end": one.end,
        "text": one.text,
        "score": one.score,
    }


def receipt_source(one: ReceiptSource) -> dict[str, Any]:
    """Return a retrieved passage of a receipt, as the reader may see it today."""
    return source(one.source) | {
        "available": one.available,
        "current": one.current,
        "in_prompt": one.in_prompt,
        "cited": one.cited,
    }


def citation(one: CitationMade) -> dict[str, Any]:
    """Return a citation with its evidence, best first."""
    return {
        "start": one.start,
        "end": one.end,
        "text": one.text,
        "evidence": [_evidence(part) for part in one.evidence],
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "source": one.source_number,
        "quote": one.quote,
        "quote_start": one.quote_start,
        "quote_end": one.quote_end,
        **locator(one.locator),
        "score": one.score,
    }


def receipt(one: Receipt) -> dict[str, Any]:
    """Return the record of how an answer came about."""
    return {
        "id": one.id,
        "response_id": one.response_id,
        "conversation_id": one.conversation_id or None,
        "created_at": one.created_at,
        "model": one.model,
        "asked_model": one.asked_model or None,
        "question": one.question,
        "answer": one.answer,
        "queries": list(one.queries.queries),
        "rewrite": one.queries.method,
        "collections": list(one.collection_ids),
        "sources": [receipt_source(part) for part in one.sources],
        "citations": [citation(part) for part in one.citations],
        "prompt_hash": one.prompt_hash,
        "prompt_version": one.prompt_version,
        "sampling": _sampling(one.sampling),
        "usage": {
            "prompt_tokens": one.usage.prompt_tokens,
            "cached_tokens": one.usage.cached_tokens,
            "completion_tokens": one.usage.completion_tokens,
        },
        "abstention": None if one.abstention is Abstention.NONE else one.abstention.name.lower(),
        "support": one.support,
        "trimmed": list(one.trimmed),
        "timings_s": dict(one.timings),
    }


def _sampling(one: Sampling) -> dict[str, Any]:
    """Return what was set; the rest was the engine's choice."""
    values = {
        "temperature": one.temperature,
        "top_p": one.top_p,
        "top_k": one.top_k,
        "seed": one.seed,
        "max_tokens": one.max_tokens or None,
        "stop": list(one.stop) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def passage(one: Passage) -> dict[str, Any]:
    """Return a search result; `parts` only where they were asked for."""
    return {
        "chunk": one.chunk_id,
        "document": one.document_id,
        "version": one.version,
        "collection": one.collection_id,
        "file_id": one.file_id,
        "filename": one.filename,
        "title": one.title,
        **locator(one.locator),
        "start": one.start,
        "end": one.end,
        "text": one.text,
        "score": one.score,
        "similarity": one.similarity,
        "attributes": _object(one.attributes_json),
        "parts": None if one.parts is None else _parts(one.parts),
    }


def _parts(one: ScoreParts) -> dict[str, Any]:
    return {
        "dense": one.dense,
        "dense_rank": one.dense_rank or None,
        "bm25": one.bm25,
        "bm25_rank": one.bm25_rank or None,
        "fused": one.fused,
        "reranked": one.reranked,
        "query": one.query_index,
    }


def key(one: ApiKey) -> dict[str, Any]:
    """Return an API key without its secret, which nobody keeps."""
    grant = one.grant
    return {
        "id": one.id,
        "name": grant.name,
        "hint": one.hint,
        "subject": grant.subject,
        "roles": sorted(grant.roles),
        "groups": sorted(grant.groups),
        "requests_per_minute": grant.requests_per_minute,
        "max_concurrent": grant.max_concurrent,
        "created_at": one.created_at,
        "expires_at": grant.expires_at,
        "revoked_at": one.revoked_at,
    }


def audit_entry(one: AuditEntry) -> dict[str, Any]:
    """Return who did what."""
    return {
        "at": one.at,
        "request_id": one.request_id,
        "subject": one.subject,
        "key_id": one.key_id,
        "action": one.action,
        "object": one.object_id or None,
        "status": one.status,
        "reason": one.reason or None,
    }


def passages(found: Sequence[Passage]) -> list[dict[str, Any]]:
    """Return search results."""
    return [passage(one) for one in found]
