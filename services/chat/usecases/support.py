"""Whether the passages hold an answer at all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.chat.domain import support
from services.chat.domain.turn import Passage
from services.chat.ports import Library
from services.layout.nearest import NEAREST, Neighbourhood, nearest, ranked


@dataclass(frozen=True, slots=True)
class Support:
    """The probability that the passages hold an answer, and for each question the neighbourhood that holds it best."""

    score: float
    places: tuple[Neighbourhood, ...] = ()


class JudgeSupport:
    """Judges the passages against the question, before a word is generated.

    Args:
        library: Tells how well a text meets a question.
        model: The calibrated weights.
    """

    def __init__(self, *, library: Library, model: support.Model) -> None:
        self._library = library
        self._model = model

    async def __call__(self, questions: Sequence[str], passages: Sequence[Passage]) -> Support:
        """Return the support of the best-supported part of the question, and the places of all parts, best part first."""
        if not passages:
            return Support(0.0)
        judged = await asyncio.gather(*(self._judge(question, passages) for question in questions))
        ordered = sorted(judged, key=lambda one: -one.score)
        places = dict.fromkeys(place for one in ordered for place in one.places)
        return Support(ordered[0].score, tuple(places))

    async def _judge(self, question: str, passages: Sequence[Passage]) -> Support:
        looked = await self.look(question, passages)
        return Support(support.score(looked[0], self._model), (looked[1],)) if looked else Support(0.0)

    async def look(self, question: str, passages: Sequence[Passage]) -> tuple[support.Features, Neighbourhood] | None:
        """Return what the decision looks at, and the best place; None when the passages hold no words."""
        places = ranked(question, passages)[:NEAREST]
        if not places:
            return None
        met = await self._library.least_met(question, [place.in_full for _, place in places])
        features = support.features(question, passages, places=places, met=met)
        return features, nearest([place for _, place in places], met)
