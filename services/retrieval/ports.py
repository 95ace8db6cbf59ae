"""What the room needs from the world."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.retrieval.domain import (
    ChunkContent,
    ChunkedVersion,
    ChunkRow,
    DocumentState,
    Hit,
    IndexRecord,
    PendingDocument,
    Scope,
    VersionState,
)

__all__ = [
    "ChunkSets",
    "Embedder",
    "Embedders",
    "Embedding",
    "Index",
    "IndexShelf",
    "IndexTable",
    "Register",
    "Reranker",
    "Texts",
]


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

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what decides its vectors: two embedders of one digest are taken for the same."""
        ...

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        """Return one row for each text. Queries go before passages that wait.

        Raises:
            Overloaded: Too many texts wait already.
            Unavailable: The model is away.
            InvalidInput: The model takes no such text.
        """
        ...


class Embedders(Protocol):
    """The embedders that this process was told of; each is opened when it is asked for first."""

    async def configured(self) -> Embedder:
        """Return the one that a first index is made with.

        Raises:
            Unavailable: It does not answer.
        """
        ...

    async def of(self, record: IndexRecord) -> Embedder:
        """Return the one whose vectors an index holds.

        Raises:
            Conflict: None of those this process was told of; the message says what to do.
            Unavailable: One that it may be does not answer.
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

    async def close(self) -> None:
        """Let go of files and connections."""
        ...

    async def drop(self) -> None:
        """Remove the index and everything in it; whoever has it open gets errors from now on.

        Raises:
            Unavailable: It is not gone.
        """
        ...


class IndexShelf(Protocol):
    """Where the indexes stand, side by side."""

    @property
    def first_name(self) -> str:
        """Name of an installation's first index."""
        ...

    def name_of(self, digest: str) -> str:
        """Return the name of the index for an embedder of this digest."""
        ...

    async def open(self, name: str, *, dimension: int, create: bool) -> Index:
        """Open an index.

        Args:
            name: Its name.
            dimension: Components of its vectors.
            create: Whether it is made when there is none.

        Raises:
            NotFound: There is none, and it is not to be made.
            Conflict: It holds something else.
            Unavailable: The back end is away.
        """
        ...


class IndexTable(Protocol):
    """The table of indexes, and of what the one that is being built holds. Its transactions decide; names are unique.

    A process that builds holds the index by a lease, `holder` being its name: what it writes and whether it may switch is
    checked in the same transaction.
    """

    async def records(self) -> list[IndexRecord]:
        """Return all indexes."""
        ...

    async def has_documents(self) -> bool:
        """Return whether any document was ever indexed."""
        ...

    async def enter(self, record: IndexRecord) -> None:
        """Note the first index, unless another process was faster."""
        ...

    async def build(self, record: IndexRecord, *, holder: str, lease_s: float) -> bool:
        """Note that an index is being built, or go on with one whose builder is gone; return False while one is there.

        Raises:
            Conflict: Another index is being built, or an old one is still kept.
        """
        ...

    async def renew(self, name: str, *, holder: str, lease_s: float) -> None:
        """Keep the index for another `lease_s`; 0 lets it go.

        Raises:
            Conflict: It is not the holder's any more.
        """
        ...

    async def pending(self, name: str, after: PendingDocument | None, limit: int) -> list[PendingDocument]:
        """Return searchable documents that the index does not hold as they are now, in order, those behind `after`."""
        ...

    async def count(self, name: str) -> tuple[int, int]:
        """Return how many documents are searchable, and how many of them are pending."""
        ...

    async def states(self, documents: Sequence[PendingDocument]) -> dict[PendingDocument, DocumentState]:
        """Return what is known of the documents now."""
        ...

    async def begin_writing(
        self, name: str, versions: Mapping[PendingDocument, int], *, holder: str
    ) -> dict[PendingDocument, DocumentState]:
        """Note that chunks of these versions are about to be written, and return what they must say.

        Those that are not the searchable version any more are left out. From now on until `end_writing` whoever removes
        one of the documents waits, so that nothing is written behind a removal's count.

        Raises:
            Conflict: The index is not the holder's any more.
        """
        ...

    async def held_version(self, name: str, documents: Sequence[PendingDocument]) -> dict[PendingDocument, int]:
        """Return which version of each document the index holds in full, with whatever access list and attributes."""
        ...

    async def end_writing(self, name: str, documents: Sequence[PendingDocument]) -> list[PendingDocument]:
        """Note that the chunks are written; return the documents that were removed meanwhile all the same."""
        ...

    async def interrupted(self, name: str) -> list[PendingDocument]:
        """Return the documents whose writing did not end."""
        ...

    async def forget_documents(self, name: str, documents: Sequence[PendingDocument]) -> None:
        """Forget what the index holds of the documents."""
        ...

    async def is_being_written(self, tenant: str, document_id: str) -> bool:
        """Return whether somebody who is there writes the document's chunks to an index at this moment."""
        ...

    async def switch(self, name: str, *, holder: str) -> int:
        """Make the index live and the live one old, if nothing is pending; return what is.

        No version becomes active in any index meanwhile.

        Raises:
            Conflict: The index is not the holder's any more.
        """
        ...

    async def forget(self, name: str) -> None:
        """Forget an index that is gone."""
        ...


class Register(Protocol):
    """The table of active versions and access revisions; its announcements go out with its changes or not at all."""

    async def look_up(
        self, tenant: str, document_ids: Sequence[str], *, index: str | None = None
    ) -> dict[str, DocumentState]:
        """Return what is known of the documents; unknown ones are absent.

        Args:
            tenant: Whose documents.
            document_ids: Which.
            index: Name of the index that must be live at this moment; None where no index was asked.

        Raises:
            IndexMoved: Another one is.
        """
        ...

    async def versions(self, tenant: str, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], VersionState]:
        """Return what is known of document versions; unknown ones are absent."""
        ...

    async def activate(self, versions: Sequence[ChunkedVersion], *, index: str) -> set[tuple[str, str]]:
        """Make the versions active and announce them, in one transaction; return (tenant, document) of those flipped.

        A version that is not newer than the active one, or of a removed document, changes nothing.

        Raises:
            IndexMoved: `index`, into which their chunks were written, is not live.
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


class ChunkSets(Protocol):
    """What ingestion has cut documents into."""

    async def read(self, key: str, *, text_key: str) -> ChunkContent:
        """Return the chunks under `key`; where passages are wider than chunks, their text is that under `text_key`.

        Raises:
            InvalidInput: They are not there or cannot be read, and never will be.
            Unavailable: The store is away.
        """
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
