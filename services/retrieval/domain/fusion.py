"""How two rankings become one, and how the results are kept from repeating each other."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.retrieval.domain.words import Fusion

# The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).
_RRF_K: Final = 60


def join_rankings(
    dense: Mapping[str, float], keyword: Mapping[str, float], *, alpha: float, fusion: Fusion
) -> dict[str, float]:
    """Return a score from 0 to 1 for everything that either ranking holds.

    Args:
        dense: Cosine by chunk id.
        keyword: BM25 score by chunk id.
        alpha: Weight of the dense ranking; the keyword ranking has the rest.
        fusion: Min-max normalised scores, or reciprocal ranks.
    """
    normalise = _relative if fusion is Fusion.RELATIVE_SCORE else _reciprocal
    near, worded = normalise(dense), normalise(keyword)
    return {
        chunk: alpha * near.get(chunk, 0.0) + (1 - alpha) * worded.get(chunk, 0.0)
        for chunk in dict.fromkeys((*dense, *keyword))
    }


def _relative(scores: Mapping[str, float]) -> dict[str, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    width = high - low
    # A single hit, or all alike: they are the best there is.
    return {chunk: (score - low) / width if width > 0 else 1.0 for chunk, score in scores.items()}


def _reciprocal(scores: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))
    return {chunk: (_RRF_K + 1) / (_RRF_K + rank) for rank, chunk in enumerate(ordered, 1)}


def diversify(
    scores: Sequence[float], vectors: Sequence[NDArray[np.float32]], *, top_k: int, weight: float
) -> list[int]:
    """Return the order of maximal marginal relevance (Carbonell and Goldstein 1998), at most `top_k` places.

    Args:
        scores: Relevance of each candidate, 0 to 1.
        vectors: Unit vector of each candidate.
        top_k: Places wanted.
        weight: 1 is relevance only, 0 is diversity only.
    """
    if not scores:
        return []
    matrix = np.stack(vectors)
    relevance = np.asarray(scores, dtype=np.float32)
    nearest = np.zeros(len(scores), dtype=np.float32)
    open_places = np.ones(len(scores), dtype=bool)
    order: list[int] = []
    while len(order) < min(top_k, len(scores)):
        gain = np.where(open_places, weight * relevance - (1 - weight) * nearest, -np.inf)
        best = int(relevance.argmax()) if not order else int(gain.argmax())
        order.append(best)
        open_places[best] = False
        nearest = np.maximum(nearest, matrix @ matrix[best])
    return order
