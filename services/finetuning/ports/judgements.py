"""What people said of answers."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from services.finetuning.domain.judgements import Judgement, JudgementKind


class Judgements(Protocol):
    """The tenant's judgements that stand: what was withdrawn is none."""

    def given(self, *, collection_ids: Collection[str], kinds: Collection[JudgementKind]) -> AsyncIterator[Judgement]:
        """Yield judgements, oldest first.

        Args:
            collection_ids: Only of answers that were drawn from one of these collections; empty for all answers.
            kinds: Only of these kinds.
        """
