"""From queries to passages: collections through the retrieval room, inline documents here."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.chat.domain.passages import cut, word_share
from services.chat.domain.turn import InlineDocument, Passage, RetrievalOptions
from services.chat.ports import Library
from services.layout.passages import best_first, without_repeats

# More pieces of inline documents than this are not embedded: the ones with the fewest words in common are left out.
_MOST_PIECES = 64


class FindPassages:
    """Finds passages in collections and in the documents of the request.

    Args:
        library: The retrieval room.
    """

    def __init__(self, *, library: Library) -> None:
        self._library = library

    async def __call__(
        self, queries: Sequence[str], *, options: RetrievalOptions, documents: Sequence[InlineDocument]
    ) -> tuple[Passage, ...]:
        """Return the passages, best first, without repeats."""
        searched, given = await asyncio.gather(self._search(queries, options), self._score(queries, documents))
        return without_repeats(best_first((*searched, *given)))

    async def _search(self, queries: Sequence[str], options: RetrievalOptions) -> list[Passage]:
        return await self._library.search(queries, options) if options.collection_ids else []

    async def _score(self, queries: Sequence[str], documents: Sequence[InlineDocument]) -> list[Passage]:
        pieces = [piece for position, document in enumerate(documents) for piece in cut(document, position)]
        if not pieces:
            return []
        shares = [max(word_share(query, f"{piece.title} {piece.text}") for query in queries) for piece in pieces]
        chosen = sorted(range(len(pieces)), key=lambda index: -shares[index])[:_MOST_PIECES]
        texts = [f"{pieces[index].title}\n{pieces[index].text}".strip() for index in chosen]
        asked, found = await asyncio.gather(self._library.embed(queries, queries=True), self._library.embed(texts))
        near = (found @ asked.T).max(axis=1)
        return [
            # Half words, half meaning: the same weight that fusion gives both rankings.
            replace(
                pieces[index],
                score=float(0.5 * shares[index] + 0.5 * max(0.0, similarity)),
                similarity=float(similarity),
            )
            for index, similarity in zip(chosen, near, strict=True)
        ]
