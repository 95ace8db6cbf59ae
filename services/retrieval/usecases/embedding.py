"""Embed and rerank texts that a caller brings along."""

from collections.abc import Mapping, Sequence

from services.retrieval.ports import Embedder, Embedding, Reranker
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.searching import choose_ranker

__all__ = ["EmbedTexts", "RankTexts"]


class EmbedTexts:
    """Turns texts into vectors.

    Args:
        embedder: The model.
        metrics: Where texts are counted.
    """

    def __init__(self, *, embedder: Embedder, metrics: Metrics) -> None:
        self._embedder = embedder
        self._metrics = metrics

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._embedder.model

    async def run(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        """Return one unit vector for each text, in order."""
        embedding = await self._embedder.embed(texts, queries=queries)
        self._metrics.embedded.labels(kind="query" if queries else "passage").inc(len(texts))
        return embedding


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
