"""What the room needs from the world."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.retrieval.domain import ChunkedVersion, ChunkRow, DocumentState, Hit, Scope, VersionState

__all__ = ["Embedder", "Embedding", "Index", "Register", "Reranker", "Texts"]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Unit vectors of some texts, one row each, and the tokens that were read."""

    vectors: NDArray[np.float32]
    token_count: int


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def dimension(self) -> int:
        """Components of one vector."""
        ...

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        """Return one row for each text. Queries go before passages that wait.

        Raises:
            Overloaded: Too many texts wait already.
        """
        ...


class Reranker(Protocol):
    """Scores texts against a query."""

    @property
    def name(self) -> str:
        """Name that searches ask for it by."""
        ...

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the relevance of each text, 0 to 1, in order.

        Raises:
            Unavailable: The model is away.
        """
        ...


class Index(Protocol):
    """Chunks that can be searched by meaning and by words. It proposes a superset; the register decides."""

    async def dense(self, scope: Scope, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        """Return the chunks nearest to `vector`, best first, with their cosine."""
        ...

    async def keyword(self, scope: Scope, search_text: str, *, limit: int) -> list[Hit]:
        """Return the chunks that share tokens with `search_text`, best first, with their BM25 score."""
        ...

    async def write(self, rows: Sequence[ChunkRow]) -> None:
        """Write chunks, replacing those with the same id; they are found at once."""
        ...

    async def counts(self, tenant: str, document_ids: Sequence[str]) -> dict[tuple[str, int], int]:
        """Return the number of chunks by document and version."""
        ...

    async def clear(self, tenant: str, keep: Mapping[str, int | None]) -> None:
        """Remove the chunks of the documents, but for the version to keep of each."""
        ...

    async def set_access(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> None:
        """Replace who may read the document in all its chunks."""
        ...

    async def set_attribute_terms(self, tenant: str, document_id: str, terms: Sequence[str]) -> None:
        """Replace the attribute terms in all chunks of the document."""
        ...

    async def tokens(self, tenant: str, document_id: str, version: int) -> frozenset[str]:
        """Return every token of a version."""
        ...

    def scan(self, tenant: str) -> AsyncIterator[Sequence[ChunkRow]]:
        """Yield every chunk of a tenant, vectors included, in batches; what is written meanwhile may be missing."""
        ...

    async def maintain(self) -> None:
        """Fold what was written lately into the search structures; cheap when there is nothing to do."""
        ...


class Register(Protocol):
    """The table of active versions and access revisions; its announcements go out with its changes or not at all."""

    async def look_up(self, tenant: str, document_ids: Sequence[str]) -> dict[str, DocumentState]:
        """Return what is known of the documents; unknown ones are absent."""
        ...

    async def versions(self, tenant: str, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], VersionState]:
        """Return what is known of document versions; unknown ones are absent."""
        ...

    async def activate(self, versions: Sequence[ChunkedVersion]) -> set[tuple[str, str]]:
        """Make the versions active and announce them, in one transaction; return (tenant, document) of those flipped.

        A version that is not newer than the active one, or of a removed document, changes nothing.
        """
        ...

    async def reject(self, tenant: str, document_id: str, version: int, reason: str) -> None:
        """Announce that a version will never be indexed."""
        ...

    async def withhold(self, tenant: str, document_id: str) -> None:
        """Take the document out of every answer, from now on, known or not yet."""
        ...

    async def restrict(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> int:
        """Replace who may read the document unless a newer revision holds; return the revision in force."""
        ...

    async def set_attributes(
        self, tenant: str, document_id: str, attributes: Mapping[str, str | float | bool], revision: int
    ) -> bool:
        """Replace the document's attributes unless a newer revision holds; return whether they are in force."""
        ...

    async def begin_removal(self, tenant: str, document_id: str, removed_count: int) -> bool:
        """Note that the document goes and how many chunks it had; return False when its end was announced before."""
        ...

    async def finish_removal(self, tenant: str, document_id: str) -> None:
        """Announce that nothing of the document is left, and forget its versions."""
        ...


class Texts(Protocol):
    """Stored texts by key."""

    async def get(self, key: str) -> bytes:
        """Return the bytes under `key`.

        Raises:
            NotFound: Nothing is kept under it.
            Unavailable: The store is away.
        """
        ...
