"""The bodies and query strings of feedback and comparisons."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gateway.api.bodies import Principal, TokenLimit
from gateway.api.brain.requests import Moment, Several, Strict
from gateway.domain.judging import FeedbackFilter, FeedbackKind

__all__ = [
    "AgreementQuery",
    "ComparisonBody",
    "ComparisonsQuery",
    "FeedbackBody",
    "FeedbackExport",
    "FeedbackQuery",
    "RankBody",
]


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this is no time of the years 1 to 9999 in UTC") from error


# As rooms tell times to each other.
Instant = Annotated[Moment, AfterValidator(_in_utc)]


class FeedbackBody(Strict):
    """What somebody thinks of an answer: a thumb, or a better answer."""

    receipt_id: str = Field(min_length=1, max_length=64)
    thumb: Literal["up", "down"] | None = None
    edited: str | None = None
    comment: str = ""


class _Which(Strict):
    kind: Annotated[list[FeedbackKind], Several] = Field(default=[])
    collection: str = ""
    model: str = ""
    rater: Principal | None = None
    since: Instant | None = None
    until: Instant | None = None

    @property
    def filter(self) -> FeedbackFilter:
        """Which judgements are meant."""
        return FeedbackFilter(
            kinds=tuple(self.kind),
            collection_id=self.collection,
            model=self.model,
            rater=self.rater or "",
            since=self.since,
            until=self.until,
        )


class FeedbackQuery(_Which):
    """Which judgements, and which stretch of their list."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""


class FeedbackExport(_Which):
    """Which judgements to export."""


class AgreementQuery(Strict):
    """Whose agreement: on answers of a collection, within a time."""

    collection: str = ""
    since: Instant | None = None
    until: Instant | None = None


class ComparedTurn(Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ComparisonBody(Strict):
    """Answers to sample: to a question, or to the last turn of a conversation."""

    question: str = ""
    messages: list[ComparedTurn] = Field(default=[], max_length=1000)
    collections: list[str] = Field(default=[], max_length=50)
    filters: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=1, le=50)
    grounding: Literal["strict", "open"] | None = None
    models: list[str] = Field(default=[], max_length=4)
    answers: int = Field(2, ge=2, le=4)
    temperature: float | None = Field(None, gt=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: TokenLimit | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    raters: list[Principal] = Field(default=[], max_length=100)


class ComparisonsQuery(Strict):
    """Which comparisons."""

    collection: str = ""
    limit: int = Field(20, ge=1, le=100)
    after: str = ""


class RankedAnswer(Strict):
    """An answer with its rank."""

    answer_id: str = Field(min_length=1, max_length=64)
    rank: int = Field(ge=1, le=4)


class RankBody(Strict):
    """A ranking: from 1 for the best; equal ranks are ties."""

    ranks: list[RankedAnswer] = Field(min_length=2, max_length=4)
    comment: str = ""
