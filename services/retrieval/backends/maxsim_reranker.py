"""Late interaction with the embedder's own token vectors (MaxSim, Khattab and Zaharia 2020)."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.retrieval.backends.lanes import Lane
from services.retrieval.backends.onnx_worker import OnnxWorker

__all__ = ["MaxSimReranker", "WeakestMaxSimReranker"]


class MaxSimReranker:
    """Scores a text by how well each piece of the query is met by its best piece.

    Args:
        worker: Runs the model.
    """

    name = "minilm-maxsim"

    def __init__(self, worker: OnnxWorker) -> None:
        self._worker = worker

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the mean over the query's pieces of the best cosine in each text, 0 to 1."""
        (asked,), outputs = await asyncio.gather(
            self._worker.run([query], lane=Lane.QUERY, by_token=True),
            self._worker.run(texts, lane=Lane.RERANK, by_token=True),
        )
        scores = []
        for output in outputs:
            if not len(asked.matrix) or not len(output.matrix):
                scores.append(0.0)
                continue
            best = (asked.matrix @ output.matrix.T).max(axis=1)
            scores.append(min(1.0, max(0.0, self._joined(best))))
        return scores

    def _joined(self, best: NDArray[np.float32]) -> float:
        return float(best.mean())


class WeakestMaxSimReranker(MaxSimReranker):
    """Scores a text by the third of the query's pieces that it meets least.

    The mean hides the one word that a text does not speak of; this score is low when there is one. It tells whether a
    text answers a question better than it tells which of several texts does.
    """

    name = "minilm-maxsim-weakest"

    def _joined(self, best: NDArray[np.float32]) -> float:
        return float(np.sort(best)[: max(1, len(best) // 3)].mean())
