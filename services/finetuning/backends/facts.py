"""Facts in the language that rooms share (brain.events.v1)."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from brain.events.v1 import adapter_pb2
from services.chassis.events.log import Envelope, new_envelope
from services.finetuning.domain.adapters import AdapterStatus, AdapterVersion, Alias
from services.finetuning.domain.promotions import Promotion

__all__ = ["ADAPTER_TOPIC", "adapter_fact", "alias_fact", "promotion_fact"]

ADAPTER_TOPIC: Final = "brain.adapter.v1"
_STATUS: Final = {
    AdapterStatus.PUBLISHED: adapter_pb2.ADAPTER_STATUS_PUBLISHED,
    AdapterStatus.BLOCKED: adapter_pb2.ADAPTER_STATUS_BLOCKED,
    AdapterStatus.DELETED: adapter_pb2.ADAPTER_STATUS_DELETED,
}


def adapter_fact(version: AdapterVersion) -> Envelope:
    """Return the event that tells the state of an adapter."""
    created = Timestamp()
    created.FromDatetime(datetime.fromtimestamp(version.created_at, UTC))
    state = adapter_pb2.AdapterState(
        name=version.name,
        status=_STATUS[version.status],
        config_blob_key=version.config_key,
        weights_blob_key=version.weights_key,
        weights_digest=version.weights_digest,
        config_digest=version.config_digest,
        base_model=version.base_model,
        base_digest=version.base_digest,
        template_hash=version.template_hash,
        principals=version.principals,
        created_at=created,
        revision=version.revision,
        reason=version.reason_code,
    )
    return new_envelope(
        tenant=version.tenant,
        type=f"adapter_{version.status.value}",
        key=f"adapter:{version.name}",
        payload=adapter_pb2.AdapterEvent(adapter=state).SerializeToString(),
    )


def alias_fact(alias: Alias) -> Envelope:
    """Return the event that tells where an alias leads."""
    state = adapter_pb2.AliasState(
        alias=alias.alias,
        target=alias.target,
        canary=alias.canary,
        canary_weight=alias.canary_weight,
        revision=alias.revision,
    )
    return new_envelope(
        tenant=alias.tenant,
        type="alias_moved",
        key=f"alias:{alias.alias}",
        payload=adapter_pb2.AdapterEvent(alias=state).SerializeToString(),
    )


def promotion_fact(promotion: Promotion) -> Envelope:
    """Return the event that tells of a promotion that waits for its verdict."""
    announced = adapter_pb2.PromotionAnnounced(
        promotion_id=promotion.promotion_id,
        alias=promotion.alias,
        candidate=promotion.candidate,
        current=promotion.previous,
    )
    return new_envelope(
        tenant=promotion.tenant,
        type="promotion_announced",
        key=f"promotion:{promotion.promotion_id}",
        payload=adapter_pb2.AdapterEvent(promotion=announced).SerializeToString(),
    )
