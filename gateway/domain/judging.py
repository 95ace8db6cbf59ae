"""Judging: what people think of answers, and how far they agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.domain.asking import Grounding, Message, RetrievalOptions, Sampling, TokenUsage

__all__ = [
    "Agreement",
    "AgreementStatus",
    "ComparedAnswer",
    "Comparison",
    "ExportCounts",
    "FeedbackFilter",
    "FeedbackKind",
    "JudgedAnswer",
    "JudgedSource",
    "Judgement",
    "Ranks",
    "Said",
    "Sampled",
    "SamplesWanted",
]

FeedbackKind = Literal["thumb_up", "thumb_down", "edit", "ranking"]
AgreementStatus = Literal["measured", "not_enough_overlap", "no_variation"]
# Answers with their ranks, from 1 for the best; equal ranks are ties.
Ranks = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Said:
    """A thumb or a better answer; `edited` is set for an edit only."""

    kind: FeedbackKind
    edited: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """A document version that an answer's prompt held."""

    document_id: str
    version: int


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer that was judged; `rank` is 0 when it was not ranked."""

    text: str
    rank: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement; texts are empty when it is not `available` to its reader today."""

    id: str
    kind: FeedbackKind
    receipt_id: str
    comparison_id: str
    rater: str
    created_at: datetime
    model: str
    asked_model: str
    collection_ids: tuple[str, ...]
    sources: tuple[JudgedSource, ...]
    available: bool
    question: str
    answers: tuple[JudgedAnswer, ...]
    edited: str
    comment: str


@dataclass(frozen=True, slots=True)
class FeedbackFilter:
    """Which judgements; what is empty does not narrow."""

    kinds: tuple[FeedbackKind, ...] = ()
    collection_id: str = ""
    model: str = ""
    rater: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """How many judgements there are, and how many of them may not be read by who exports."""

    judgements: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha where it is defined, with its interval, and what it rests on."""

    status: AgreementStatus
    alpha: float | None
    interval: tuple[float, float] | None
    raters: int
    units: int
    pairable_values: int
    values: int


@dataclass(frozen=True, slots=True)
class SamplesWanted:
    """Answers to sample; `answers` 0 leaves the number to the chat room, no models mean the base model."""

    messages: tuple[Message, ...]
    retrieval: RetrievalOptions
    grounding: Grounding
    models: tuple[str, ...]
    answers: int
    sampling: Sampling
    raters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """An answer without the name of who gave it."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Answers to one question; `feedback_id` is the caller's ranking, empty for none."""

    id: str
    created_at: datetime
    messages: tuple[Message, ...]
    collection_ids: tuple[str, ...]
    answers: tuple[ComparedAnswer, ...]
    raters: tuple[str, ...]
    own: bool
    feedback_id: str


@dataclass(frozen=True, slots=True)
class Sampled:
    """A comparison that was made, and the tokens that it took by model."""

    comparison: Comparison
    spent: tuple[tuple[str, TokenUsage], ...]
