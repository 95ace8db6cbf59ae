"""Finding: searches, passages, explanations, vectors and orders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.domain.asking import Locator

__all__ = ["Explanation", "Outcome", "Passage", "Ranked", "Ranking", "ScoreParts", "SearchSpec", "Vectors"]

Fusion = Literal["", "relative_score", "reciprocal_rank"]
Outcome = Literal[
    "unspecified",
    "found",
    "not_indexed",
    "other_collection",
    "filtered_out",
    "below_threshold",
    "ranked_too_low",
    "no_match",
]


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """What to search, and how. None and empty take the retrieval room's settings."""

    queries: tuple[str, ...]
    collection_ids: tuple[str, ...]
    filter_json: str = ""
    top_k: int = 10
    alpha: float | None = None
    fusion: Fusion = ""
    ranker: str = ""
    score_threshold: float | None = None
    mmr_lambda: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """How a score came about; ranks from 1, 0 when absent."""

    dense: float | None
    bm25: float | None
    dense_rank: int
    bm25_rank: int
    fused: float
    reranked: float | None
    query_index: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as a search result: `text == stored_text[start:end]`, score 0 to 1."""

    chunk_id: str
    document_id: str
    version: int
    collection_id: str
    file_id: str
    filename: str
    title: str
    text: str
    start: int
    end: int
    locator: Locator
    score: float
    parts: ScoreParts | None
    attributes_json: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one document in a search."""

    outcome: Outcome
    rank: int
    best: Passage | None
    cutoff_score: float
    missing_terms: tuple[str, ...]
    active_version: int


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of texts: row-major float32, little endian, `dimension` components each."""

    data: bytes
    dimension: int
    model: str
    token_count: int

    def row(self, index: int) -> bytes:
        """Return the bytes of one vector."""
        width = 4 * self.dimension
        return self.data[index * width : (index + 1) * width]

    def rows(self) -> Sequence[Sequence[float]]:
        """Return the vectors as numbers."""
        numbers = memoryview(self.data).cast("f")
        return [numbers[start : start + self.dimension].tolist() for start in range(0, len(numbers), self.dimension)]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text's place: its index in the request and its relevance, 0 to 1."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Texts in order, best first, and who ordered them."""

    results: tuple[Ranked, ...]
    ranker: str
