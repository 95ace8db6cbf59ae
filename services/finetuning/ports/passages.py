"""Passages of the retrieval room, found as chat finds them."""

from collections.abc import Sequence
from typing import Protocol

from services.layout.turns import Passage


class Passages(Protocol):
    """The index under the caller's rights."""

    async def search(self, query: str, *, collection_ids: Sequence[str], top_k: int) -> list[Passage]:
        """Return the best passages, best first.

        Raises:
            Unavailable: The index is away.
        """

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return, for each text in order, how well it meets the words of the question that it meets least, 0 to 1."""
