"""Datasets, adapters, promotions and webhooks as the JSON of the native API."""

from typing import Any

import orjson

from gateway.domain.adapters import Adapter, Alias, Promotion
from gateway.domain.tuning import Check, Dataset, DatasetSpec, Webhook

__all__ = ["adapter", "alias", "check", "dataset", "promotion", "webhook"]


def check(one: Check) -> dict[str, Any]:
    """Return what a pre-flight found."""
    return {"trainable": one.trainable, "report": _parsed(one.report_json)}


def dataset(one: Dataset) -> dict[str, Any]:
    """Return a dataset."""
    return {
        "id": one.id,
        "name": one.name,
        "created_at": one.created_at,
        "status": one.status.value,
        "error": one.error or None,
        "spec": _rows(one.spec),
        "training_file": one.training_file or None,
        "held_out_file": one.held_out_file or None,
        "rows": one.rows,
        "held_out_rows": one.held_out_rows,
        "documents": one.documents,
        "judgements": one.judgements,
        "report": _parsed(one.report_json),
        "owner": one.owner,
    }


def _rows(one: DatasetSpec) -> dict[str, Any]:
    """Return how rows are made; null is what nobody has chosen."""
    return {
        "kind": one.kind.value,
        "collections": list(one.collection_ids),
        "documents": list(one.document_ids),
        "file_id": one.file_id or None,
        "format": one.format or None,
        "max_rows": one.max_rows or None,
        "passages_per_row": one.passages_per_row or None,
        "gold_share": one.gold_share,
        "unanswerable_share": one.unanswerable_share,
        "phrasings": one.phrasings or None,
        "held_out_share": one.held_out_share,
        "seed": one.seed,
        "writer_model": one.writer_model or None,
    }


def adapter(one: Adapter) -> dict[str, Any]:
    """Return an adapter; lists leave its sources out."""
    sources = [
        {
            "kind": source.kind,
            "id": source.id,
            "version": source.version or None,
            "rows": source.rows,
            "withdrawn": source.withdrawn,
        }
        for source in one.sources
    ]
    view = {
        "name": one.name,
        "suffix": one.suffix,
        "version": one.version,
        "created_at": one.created_at,
        "state": one.state.value,
        "reason": one.reason or None,
        "aliases": list(one.aliases),
        "access": list(one.principals),
        "owner": one.owner,
        "base_model": one.base_model,
        "base_digest": one.base_digest or None,
        "base_licence": one.base_licence or None,
        "template_hash": one.template_hash or None,
        "digest": one.digest,
        "parent": one.parent or None,
        "job": one.job_id or None,
        "step": one.step or None,
        "rank": one.rank,
        "size_bytes": one.size_bytes,
        "seed": one.seed,
        "settings": _parsed(one.settings_json),
        "metrics": _parsed(one.metrics_json),
    }
    return view | ({"sources": sources} if sources else {})


def promotion(one: Promotion) -> dict[str, Any]:
    """Return a promotion with what happened to it, oldest first."""
    return {
        "id": one.id,
        "alias": one.alias,
        "candidate": one.candidate,
        "previous": one.previous or None,
        "state": one.state.value,
        "canary_weight": one.canary_weight,
        "created_at": one.created_at,
        "finished_at": one.finished_at,
        "check": _parsed(one.check_json),
        "history": [
            {"at": step.at, "state": step.state.value, "reason": step.reason, "by": step.by or None}
            for step in one.history
        ],
        "owner": one.owner,
    }


def alias(one: Alias) -> dict[str, Any]:
    """Return an alias."""
    return {
        "alias": one.alias,
        "target": one.target,
        "canary": one.canary or None,
        "canary_weight": one.canary_weight if one.canary else None,
        "moved_at": one.moved_at,
    }


def webhook(one: Webhook) -> dict[str, Any]:
    """Return an address that is told, without its secret."""
    return {
        "id": one.id,
        "url": one.url,
        "events": list(one.events),
        "created_at": one.created_at,
        "last_delivery": one.last_delivery or None,
    }


def _parsed(text: str) -> Any:
    return orjson.loads(text) if text else None
