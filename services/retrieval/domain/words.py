"""What retrieval speaks of: chunks, hits, passages, readers, documents and their versions."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.retrieval.domain.filters import Filter

# Any fixed UUID does; this one was drawn for chunk ids.
_CHUNKS: Final = uuid.UUID("6a1f7f0c-55a7-5d0f-9a3b-0d1c6f1f2c11")
Attributes = Mapping[str, str | float | bool]


def chunk_id(tenant: str, document_id: str, version: int, index: int) -> str:
    """Return the id of a chunk: the same for the same place, so that writing twice leaves one copy."""
    return str(uuid.uuid5(_CHUNKS, json.dumps([tenant, document_id, version, index])))


def indexed_text(title: str, heading_path: Iterable[str], text: str) -> str:
    """Return what is indexed and embedded for a chunk: title, headings and text, each line once.

    Headings carry the words that people ask with; a chunk alone often only says "it is covered".
    """
    lines: list[str] = []
    for line in (title, *heading_path):
        if line and line not in lines:
            lines.append(line)
    return "\n".join((*lines, text))


class Fusion(StrEnum):
    """How the dense and the keyword ranking become one."""

    RELATIVE_SCORE = "relative_score"
    RECIPROCAL_RANK = "reciprocal_rank"


class Outcome(StrEnum):
    """What became of a document in a search."""

    FOUND = "found"
    NOT_INDEXED = "not_indexed"
    OTHER_COLLECTION = "other_collection"
    FILTERED_OUT = "filtered_out"
    BELOW_THRESHOLD = "below_threshold"
    RANKED_TOO_LOW = "ranked_too_low"
    NO_MATCH = "no_match"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who searches. An administrator sees every document of the tenant, and of no other."""

    tenant: str
    principals: tuple[str, ...]
    is_administrator: bool = False

    def may_read(self, principals: Iterable[str]) -> bool:
        """Return whether an access list admits the reader; an empty list admits nobody."""
        return self.is_administrator or not set(principals).isdisjoint(self.principals)


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """What to search, and how."""

    queries: tuple[str, ...]
    collection_ids: tuple[str, ...]
    top_k: int
    alpha: float
    fusion: Fusion
    ranker: str
    filter: Filter | None = None
    score_threshold: float | None = None
    mmr_lambda: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What an index query may return at most. `principals` None stands for an administrator."""

    tenant: str
    collection_ids: tuple[str, ...]
    principals: tuple[str, ...] | None
    filter: Filter | None = None
    document_id: str | None = None


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a passage stands in its source."""

    page_first: int = 0
    page_last: int = 0
    heading_path: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as it arrives: `indexed` is searched, `text` (stored_text[start:end]) is handed out."""

    index: int
    indexed: str
    text: str
    start: int
    end: int
    locator: Locator


@dataclass(frozen=True, slots=True)
class ChunkContent:
    """What the chunk blob of a version holds."""

    filename: str
    title: str
    attributes: Attributes
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class ChunkedVersion:
    """A document version that is to be indexed and made the active one."""

    tenant: str
    document_id: str
    collection_id: str
    version: int
    file_id: str
    filename: str
    title: str
    text_blob_key: str
    chunks_blob_key: str
    attributes: Attributes
    principals: tuple[str, ...]
    access_revision: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRow:
    """A chunk as the index keeps it."""

    chunk_id: str
    tenant: str
    collection_id: str
    document_id: str
    version: int
    live: bool
    principals: tuple[str, ...]
    access_revision: int
    attribute_terms: tuple[str, ...]
    text: str
    start: int
    end: int
    locator: Locator
    search_text: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A chunk found by one ranking: `score` is a cosine or a BM25 score."""

    chunk_id: str
    collection_id: str
    document_id: str
    version: int
    access_revision: int
    text: str
    start: int
    end: int
    locator: Locator
    vector: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """How a score came about; ranks count from 1, 0 is absent."""

    dense: float | None = None
    bm25: float | None = None
    dense_rank: int = 0
    bm25_rank: int = 0
    fused: float = 0.0
    reranked: float | None = None
    query_index: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A hit with its joined score."""

    hit: Hit
    score: float
    similarity: float
    parts: ScoreParts


@dataclass(frozen=True, slots=True)
class VersionState:
    """What is known of one version of a document."""

    document_id: str
    version: int
    file_id: str
    filename: str
    title: str
    text_blob_key: str
    chunks_blob_key: str
    chunk_count: int


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What the table of active versions says of a document. It decides; the index only proposes."""

    document_id: str
    collection_id: str = ""
    active_version: int = 0
    principals: tuple[str, ...] = ()
    access_revision: int = 0
    attributes: Attributes = field(default_factory=dict)
    attributes_revision: int = 0
    withheld: bool = False
    removed: bool = False
    active: VersionState | None = None

    @property
    def is_searchable(self) -> bool:
        """Whether any reader may find it."""
        return self.active_version > 0 and not self.withheld and not self.removed


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as a search result."""

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
    similarity: float
    parts: ScoreParts
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a document in a search."""

    outcome: Outcome
    rank: int = 0
    best: Passage | None = None
    cutoff_score: float = 0.0
    missing_terms: tuple[str, ...] = ()
    active_version: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a document version by character offsets."""

    document_id: str
    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ResolvedSpan:
    """Text of a span, if it may be read."""

    available: bool = False
    text: str = ""
    filename: str = ""
    title: str = ""
    current: bool = False


def as_attributes(value: Any) -> Attributes:
    """Return the pairs of a parsed JSON object that may be attributes: strings, numbers and booleans."""
    if not isinstance(value, dict):
        return {}
    return {str(key): item for key, item in value.items() if isinstance(item, str | int | float | bool)}
