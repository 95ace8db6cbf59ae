"""The registry of adapters: immutable versions with their lineage, and promotions that move aliases between them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = [
    "Adapter",
    "AdapterSource",
    "AdapterState",
    "Alias",
    "NewPromotion",
    "Promotion",
    "PromotionState",
    "PromotionStep",
    "Reach",
    "Retraining",
]


class AdapterState(StrEnum):
    """Whether an adapter may be asked."""

    PUBLISHED = "published"
    BLOCKED = "blocked"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A document, judgement or file that an adapter learned from; `withdrawn` when it may no longer be used for it."""

    kind: str
    id: str
    version: int
    rows: int
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Adapter:
    """One version of an adapter; `sources` are empty in lists."""

    name: str
    suffix: str
    version: int
    created_at: datetime
    state: AdapterState
    reason: str
    digest: str
    base_model: str
    base_digest: str
    base_licence: str
    template_hash: str
    parent: str
    job_id: str
    step: int
    rank: int
    size_bytes: int
    seed: int
    settings_json: str
    metrics_json: str
    principals: tuple[str, ...]
    sources: tuple[AdapterSource, ...]
    aliases: tuple[str, ...]
    owner: str


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a deletion, or a narrower access list, has reached adapters.

    Attributes:
        blocked: Adapters that are refused from now on.
        is_pending: Whether the finetuning room could not be told; the event that follows will tell it.
    """

    blocked: tuple[str, ...] = ()
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Retraining:
    """Jobs that train a chain again, first stage first, and the rows that were left out of it."""

    job_ids: tuple[str, ...]
    rows_left_out: int


class PromotionState(StrEnum):
    """Where a promotion stands."""

    GATED = "gated"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PromotionStep:
    """Something that happened to a promotion; `by` is empty for the room itself."""

    at: datetime
    state: PromotionState
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """The way of an alias from one adapter to the next."""

    id: str
    alias: str
    candidate: str
    previous: str
    state: PromotionState
    canary_weight: float
    created_at: datetime
    finished_at: datetime | None
    history: tuple[PromotionStep, ...]
    owner: str
    check_json: str


@dataclass(frozen=True, slots=True)
class NewPromotion:
    """A promotion to open; a weight of 0 skips the trial, a reason skips the gate."""

    alias: str
    candidate: str
    canary_weight: float | None = None
    min_judgements: int = 0
    skip_gate_reason: str = ""


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that leads to an adapter or the base model."""

    alias: str
    target: str
    canary: str
    canary_weight: float
    moved_at: datetime
