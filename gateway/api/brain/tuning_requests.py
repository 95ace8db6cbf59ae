"""The bodies and query strings of the native API about training: datasets, checks, adapters, promotions, webhooks."""

from typing import Literal

from pydantic import Field

from gateway.api.bodies import Principal
from gateway.api.brain.requests import Strict
from gateway.api.training import TrainingBody
from gateway.domain.tuning import DatasetKind

__all__ = [
    "AdapterImport",
    "AdaptersQuery",
    "CheckBody",
    "DatasetBody",
    "NewestQuery",
    "PromotionBody",
    "PromotionsQuery",
    "Reason",
    "ReasonOrNone",
    "WebhookBody",
]


class NewestQuery(Strict):
    """Which stretch of a list that is newest first."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""


class DatasetBody(Strict):
    """Training rows to make."""

    name: str = Field(min_length=1, max_length=256)
    kind: DatasetKind
    collections: list[str] = Field(default=[], max_length=50)
    documents: list[str] = Field(default=[], max_length=10_000)
    file_id: str = ""
    format: Literal["", "openai_chat", "openai_preference", "alpaca", "sharegpt", "csv"] = ""
    max_rows: int | None = Field(None, ge=1, lt=2**31)
    passages_per_row: int | None = Field(None, ge=1, le=50)
    gold_share: float | None = Field(None, ge=0, le=1)
    unanswerable_share: float | None = Field(None, ge=0, le=1)
    phrasings: int | None = Field(None, ge=1, le=20)
    held_out_share: float | None = Field(None, ge=0, lt=1)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    writer_model: str = Field("", max_length=256)


class CheckBody(TrainingBody):
    """A training job to check: the body that would create it."""

    skip_dry_run: bool = False


class AdaptersQuery(NewestQuery):
    """Which adapters."""

    document: str = ""


class AdapterImport(Strict):
    """An adapter that was trained elsewhere, as an uploaded archive."""

    file_id: str = Field(min_length=1)
    suffix: str = Field(min_length=1, max_length=64)
    access: list[Principal] = Field(default=[], max_length=500)


class Reason(Strict):
    """Why."""

    reason: str = Field(min_length=1, max_length=1000)


class ReasonOrNone(Strict):
    """Why, where anybody said so."""

    reason: str = Field("", max_length=1000)


class PromotionBody(Strict):
    """An alias to move, carefully."""

    alias: str = Field(min_length=1, max_length=64)
    candidate: str = Field(min_length=1, max_length=256)
    canary_weight: float | None = Field(None, ge=0, le=1)
    min_judgements: int | None = Field(None, ge=1, lt=2**31)
    skip_gate_reason: str = Field("", max_length=1000)


class PromotionsQuery(NewestQuery):
    """Which promotions."""

    alias: str = ""


class WebhookBody(Strict):
    """An address to tell when jobs end."""

    url: str = Field(pattern=r"^https?://\S+$", max_length=2048)
    events: list[Literal["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]] = Field(
        default=[]
    )
