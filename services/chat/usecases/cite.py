"""Citations of an answer: words and facts first, embeddings only for what is in doubt."""

from collections.abc import Sequence

from services.chat.domain.citations import Candidate, Thresholds, Window, candidates, decide, parts
from services.chat.domain.turn import Citation
from services.chat.ports import Library
from services.chat.telemetry import Metrics
from services.layout.words import Stretch


class Cite:
    """Finds what supports the stretches of an answer.

    Args:
        library: Where similarities come from.
        metrics: Where outcomes are counted.
        thresholds: Where support begins.
    """

    def __init__(self, *, library: Library, metrics: Metrics, thresholds: Thresholds) -> None:
        self._library = library
        self._metrics = metrics
        self._thresholds = thresholds

    async def __call__(
        self, stretches: Sequence[Stretch], windows: Sequence[Window], *, question: str
    ) -> list[Citation]:
        """Return the citations in the order of the answer; a sentence without one may have some of its clauses cited."""
        wholes = [self._candidates(stretch, windows, question) for stretch in stretches]
        clauses = [
            [self._candidates(part, windows, question) for part in parts(stretch)]
            if not any(one.sure for one in whole)
            else []
            for stretch, whole in zip(stretches, wholes, strict=True)
        ]
        similarity = await self._similarity([*wholes, *(part for group in clauses for part in group)])
        found: list[Citation] = []
        for whole, group in zip(wholes, clauses, strict=True):
            cited = [decide(whole, similarity, thresholds=self._thresholds)]
            if cited[0] is None:
                cited = [decide(part, similarity, thresholds=self._thresholds) for part in group]
            supported = [citation for citation in cited if citation is not None]
            self._metrics.citations.labels(outcome="supported" if supported else "unsupported").inc()
            found += supported
        return found

    def _candidates(self, stretch: Stretch, windows: Sequence[Window], question: str) -> tuple[Candidate, ...]:
        return candidates(stretch, windows, question=question, thresholds=self._thresholds)

    async def _similarity(self, groups: Sequence[Sequence[Candidate]]) -> dict[tuple[str, str], float]:
        doubtful = [one for group in groups for one in group if not one.sure]
        if not doubtful:
            return {}
        texts = list(dict.fromkeys(text for one in doubtful for text in (one.stretch.text, one.window.text)))
        vectors = dict(zip(texts, await self._library.embed(texts), strict=True))
        return {
            (one.stretch.text, one.window.text): float(vectors[one.stretch.text] @ vectors[one.window.text])
            for one in doubtful
        }
