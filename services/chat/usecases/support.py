"""Whether the passages hold an answer at all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.chat.domain import support
from services.chat.domain.turn import Passage
from services.chat.ports import Library

# Neighbourhoods whose similarity is asked for: the best by words.
_NEAREST = 4


@dataclass(frozen=True, slots=True)
class Support:
    """The probability that the passages hold an answer, and the neighbourhood that holds it best."""

    score: float
    best: support.Neighbourhood | None


class JudgeSupport:
    """Judges the passages against the question, before a word is generated.

    Args:
        library: Where similarities come from.
        model: The calibrated weights.
    """

    def __init__(self, *, library: Library, model: support.Model) -> None:
        self._library = library
        self._model = model

    async def __call__(self, questions: Sequence[str], passages: Sequence[Passage]) -> Support:
        """Return the support of the best-supported part of the question."""
        if not passages:
            return Support(0.0, None)
        judged = await asyncio.gather(*(self._judge(question, passages) for question in questions))
        return max(judged, key=lambda one: one.score)

    async def _judge(self, question: str, passages: Sequence[Passage]) -> Support:
        places = support.ranked(question, passages)[:_NEAREST]
        if not places:
            return Support(0.0, None)
        asked, found, met = await asyncio.gather(
            self._library.embed([question], queries=True),
            self._library.embed([place.text for _, place in places]),
            self._library.least_met(question, [place.in_full for _, place in places]),
        )
        nearness = [float(value) for value in found @ asked[0]]
        found_features = support.features(question, passages, places=places, nearness=nearness, met=met)
        best = max(range(len(places)), key=lambda index: places[index][0] + nearness[index] + met[index])
        return Support(support.score(found_features, self._model), places[best][1])
