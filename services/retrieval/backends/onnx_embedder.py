"""The embedder on the packaged MiniLM."""

from collections.abc import Sequence

import numpy as np

from services.retrieval.backends.lanes import Lane
from services.retrieval.backends.onnx_worker import DIMENSION, MODEL, OnnxWorker
from services.retrieval.ports import Embedding

__all__ = ["OnnxEmbedder"]


class OnnxEmbedder:
    """Mean-pooled, normalised sentence vectors.

    Args:
        worker: Runs the model.
    """

    model = MODEL
    dimension = DIMENSION

    def __init__(self, worker: OnnxWorker) -> None:
        self._worker = worker

    @property
    def digest(self) -> str:
        """SHA-256 of the model's files and of how much of a text they read."""
        return self._worker.digest

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        """Return one unit vector for each text."""
        outputs = await self._worker.run(texts, lane=Lane.QUERY if queries else Lane.PASSAGE)
        vectors = np.stack([output.matrix for output in outputs]) if outputs else np.zeros((0, DIMENSION), np.float32)
        return Embedding(vectors, sum(output.token_count for output in outputs))
