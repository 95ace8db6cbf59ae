"""What other rooms are told: that an answer was given, that somebody judged one, that a judgement was taken back.

Ids, names and keys only: what was said stays in the room's records, and in the blob of a judgement until it is withdrawn.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.chat.domain.feedback import FeedbackKind, JudgedSource

__all__ = ["Announcement", "AnswerGiven", "AnswerOutcome", "FeedbackGiven", "FeedbackWithdrawn"]


class AnswerOutcome(StrEnum):
    """How a turn ended."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AnswerGiven:
    """A turn that leaves a receipt came to its end; `receipt_id` is empty when it failed before there was one.

    `response_id` keeps what is told of one turn together.
    """

    response_id: str
    receipt_id: str
    model: str
    asked_model: str
    outcome: AnswerOutcome
    collection_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeedbackGiven:
    """Somebody judged an answer; what was said lies under `blob_key`."""

    feedback_id: str
    kind: FeedbackKind
    receipt_id: str
    model: str
    asked_model: str
    blob_key: str
    collection_ids: tuple[str, ...]
    sources: tuple[JudgedSource, ...]


@dataclass(frozen=True, slots=True)
class FeedbackWithdrawn:
    """A judgement was taken back; its blob goes."""

    feedback_id: str


Announcement = AnswerGiven | FeedbackGiven | FeedbackWithdrawn
"""One thing that other rooms are told."""
