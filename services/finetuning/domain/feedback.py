"""Judgements of answers, as the room hears of them."""

from dataclasses import dataclass

__all__ = ["HeardJudgement"]


@dataclass(frozen=True, slots=True)
class HeardJudgement:
    """A judgement whose content lies in the blob store.

    Attributes:
        feedback_id: Its id.
        kind: thumb_up, thumb_down, edit or ranking.
        model: Model that gave the judged answer; empty for a ranking.
        collection_ids: Collections that the answer was drawn from.
        sources: Documents, with their versions, that the answer's prompt held.
        blob_key: Where its content lies.
        at: Seconds since 1970.
    """

    feedback_id: str
    kind: str
    model: str
    collection_ids: tuple[str, ...]
    sources: tuple[tuple[str, int], ...]
    blob_key: str
    at: float
