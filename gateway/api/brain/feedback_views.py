"""Feedback and comparisons as the JSON of the native API."""

from typing import Any

from gateway.domain.judging import Agreement, Comparison, Judgement

__all__ = ["agreement", "comparison", "judgement"]


def judgement(one: Judgement) -> dict[str, Any]:
    """Return a judgement; its texts are null where its reader may not read what the answer's prompt held."""
    shown = one.available
    return {
        "id": one.id,
        "kind": one.kind,
        "receipt_id": one.receipt_id or None,
        "comparison_id": one.comparison_id or None,
        "rater": one.rater,
        "created_at": one.created_at,
        "model": one.model or None,
        "asked_model": one.asked_model or None,
        "collections": list(one.collection_ids),
        "sources": [{"document": source.document_id, "version": source.version} for source in one.sources],
        "available": shown,
        "question": one.question if shown else None,
        "answers": [{"text": part.text if shown else None, "rank": part.rank or None} for part in one.answers],
        "edited": one.edited or None,
        "comment": one.comment or None,
    }


def comparison(one: Comparison) -> dict[str, Any]:
    """Return a comparison as one of its raters sees it."""
    return {
        "id": one.id,
        "created_at": one.created_at,
        "messages": [{"role": message.role, "content": message.content} for message in one.messages],
        "collections": list(one.collection_ids),
        "answers": [{"id": answer.id, "text": answer.text} for answer in one.answers],
        "raters": list(one.raters),
        "own": one.own,
        "feedback_id": one.feedback_id or None,
    }


def agreement(one: Agreement, level: str) -> dict[str, Any]:
    """Return how far raters agree; `alpha` is null where `status` says why."""
    return {
        "status": one.status,
        "level": level,
        "alpha": one.alpha,
        "interval": None if one.interval is None else list(one.interval),
        "raters": one.raters,
        "units": one.units,
        "pairable_values": one.pairable_values,
        "values": one.values,
    }
