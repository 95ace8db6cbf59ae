"""Embed and rerank texts that a caller brings along."""

from collections.abc import Mapping, Sequence

from services.retrieval.ports import Embedding, Reranker
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.searching import choose_ranker
from services.retrieval.usecases.serving import LiveIndexes

__all__ = ["EmbedTexts", "RankTexts"]


class EmbedTexts:
    """Turns texts into vectors like those of the live index.

    Args:
        indexes: Know its embedder.
        metrics: Where texts are counted.
    """

    def __init__(self, *, indexes: LiveIndexes, metrics: Metrics) -> None:
        self._indexes = indexes
        self._metrics = metrics

    async def run(self, texts: Sequence[str], *, queries: bool) -> tuple[str, Embedding]:
        """Return the model's name and one unit vector for each text, in order."""
        embedder = (await self._indexes.refreshed()).embedder
        embedding = await embedder.embed(texts, queries=queries)
        self._metrics.embedded.labels(kind="query" if queries else "passage").inc(len(texts))
        return embedder.model, embedding


class RankTexts:
    """Orders texts by relevance to a query.

    Args:
        rerankers: By name.
        default: Name of the one that is used when none is asked for.
    """

    def __init__(self, *, rerankers: Mapping[str, Reranker], default: str) -> None:
        self._rerankers = rerankers
        self._default = default

    async def run(
        self, query: str, texts: Sequence[str], *, top_n: int, ranker: str
    ) -> tuple[str, list[tuple[int, float]]]:
        """Return the reranker's name and (index, score) of the best texts, best first.

        Raises:
            InvalidInput: The reranker is not known, or is `none`, which orders nothing.
        """
        reranker = choose_ranker(self._rerankers, ranker or self._default) or self._rerankers[self._default]
        scores = await reranker.score(query, texts)
        order = sorted(range(len(texts)), key=lambda at: (-scores[at], at))
        return reranker.name, [(at, scores[at]) for at in order[: top_n or len(order)]]
