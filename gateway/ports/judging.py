"""What the gateway needs from the room that remembers what people think of answers."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Protocol

from gateway.domain.judging import (
    Agreement,
    Comparison,
    ExportCounts,
    FeedbackFilter,
    Judgement,
    Ranks,
    Said,
    Sampled,
    SamplesWanted,
)
from gateway.domain.keeping import Page, Paging

__all__ = ["Feedback"]


class Feedback(Protocol):
    """Keeps judgements of answers, and the comparisons that are ranked."""

    async def give(self, receipt_id: str, said: Said) -> tuple[Judgement, str]:
        """Keep a thumb or a better answer; return it, and the id of the earlier one whose place it took."""
        ...

    async def get(self, feedback_id: str) -> Judgement:
        """Return a judgement, as the caller may see it today."""
        ...

    async def list_all(self, wanted: FeedbackFilter, paging: Paging) -> Page[Judgement]:
        """Return judgements, newest first."""
        ...

    async def withdraw(self, feedback_id: str) -> None:
        """Take a judgement back."""
        ...

    def export(self, wanted: FeedbackFilter) -> AsyncGenerator[ExportCounts | str, None]:
        """Yield how many judgements there are, then training rows as JSON."""
        ...

    async def agreement(
        self, collection_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[Agreement, Agreement]:
        """Return how far raters agree on thumbs, and on rankings."""
        ...

    async def sample(self, wanted: SamplesWanted) -> Sampled:
        """Draw different answers to one question, to be ranked."""
        ...

    async def list_comparisons(self, collection_id: str, paging: Paging) -> Page[Comparison]:
        """Return the comparisons that the caller may rank and has not, newest first."""
        ...

    async def get_comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison that the caller may rank."""
        ...

    async def rank(self, comparison_id: str, ranks: Ranks, comment: str) -> tuple[Judgement, str]:
        """Keep a ranking; return it, and the id of the earlier one whose place it took."""
        ...

    async def delete_comparison(self, comparison_id: str) -> int:
        """Remove a comparison; return how many rankings went with it."""
        ...
