"""What ingestion needs from the world."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from services.chassis.jobs.table import Job
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.collections import Collection, CollectionUse
from services.ingestion.domain.deletion import Deletion
from services.ingestion.domain.documents import Attributes, Document, DocumentQuery, Page, Version
from services.ingestion.domain.facts import Fact
from services.ingestion.domain.files import File
from services.ingestion.domain.text import Chunking, ParsedDocument

__all__ = ["Blobs", "Change", "ChunkForm", "DetectType", "DocumentReader", "Index", "Ledger", "Reading"]


class DocumentReader(Protocol):
    """Reads files of every supported kind; a hostile file harms nobody but its own reading."""

    async def read(self, path: Path, *, filename: str, chunking: Chunking) -> ParsedDocument:
        """Return the text and the chunks of the file at `path`, which was uploaded as `filename`.

        Cancelling the call ends the reading at once.

        Raises:
            Unreadable: The file cannot be read; its `reason` is for the document's owner.
        """
        ...


class DetectType(Protocol):
    """Tells what a file is by looking at it."""

    def __call__(self, head: bytes, /, *, filename: str) -> str:
        """Return the media type of a file that begins with `head`."""
        ...


class ChunkForm(Protocol):
    """The form in which chunks are handed to other rooms."""

    def chunks(self, document: Document, version: Version, parsed: ParsedDocument) -> bytes:
        """Return the chunks of a version as the blob that a Chunked fact points to."""
        ...


class Index(Protocol):
    """The searchable side, asked only for what must hold at once. Calls are made with the rights of the caller."""

    async def withhold(self, document_id: str) -> int:
        """Stop every search from returning the document; return how many chunks that concerns.

        Raises:
            Unavailable: The index cannot be asked; nothing has changed.
        """
        ...

    async def restrict(self, document_id: str, principals: Sequence[str], access_revision: int) -> None:
        """Let nobody but `principals` find the document.

        Raises:
            Unavailable: The index cannot be asked; nothing has changed.
        """
        ...


class Blobs(Protocol):
    """Bytes by key. What `put` and `put_stream` have returned from is durable."""

    async def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, replacing what was there."""
        ...

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> tuple[int, str]:
        """Keep what `parts` yields; return (bytes, SHA-256 as hexadecimal)."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes under `key`; raises NotFound."""
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes under `key` in parts of about 1 MiB; raises NotFound."""
        ...

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove what is kept under `keys`; return how many were there."""
        ...

    async def rename(self, source: str, target: str) -> None:
        """Move what is kept under `source` to `target`, replacing what was there."""
        ...

    async def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix` (whole path segments), sorted."""
        ...


class Reading(Protocol):
    """The room's records, as read. Everything is looked up under a tenant."""

    async def file(self, tenant: str, file_id: str) -> File | None:
        """Return a file."""
        ...

    async def files(self, tenant: str, page: Page, *, owner: str | None, purpose: str) -> list[File]:
        """Return files of their own (none that came with a document); of one owner, or of all with None."""
        ...

    async def expired_files(self, now: float) -> list[File]:
        """Return files, of every tenant, whose time has come."""
        ...

    async def collection(self, tenant: str, collection_id: str) -> Collection | None:
        """Return a collection, without its use: that is counted over all its documents."""
        ...

    async def collection_use(self, collection_id: str) -> CollectionUse:
        """Return what a collection holds."""
        ...

    async def collections(self, tenant: str, page: Page, *, name: str) -> list[Collection]:
        """Return collections with their use."""
        ...

    async def expired_collections(self, now: float) -> list[Collection]:
        """Return collections, of every tenant, whose time has come."""
        ...

    async def document(self, tenant: str, document_id: str) -> Document | None:
        """Return a document, one that is being deleted too."""
        ...

    async def document_by_key(self, tenant: str, collection_id: str, key: str) -> Document | None:
        """Return the document that holds a key in a collection; none that is being deleted."""
        ...

    async def document_of_file(self, tenant: str, collection_id: str, file_id: str) -> Document | None:
        """Return the document of a collection whose newest version is made of a file; none that is being deleted."""
        ...

    async def documents_of_file(self, tenant: str, file_id: str) -> list[Document]:
        """Return the documents whose newest or searchable version is made of a file; none that is being deleted."""
        ...

    async def documents(self, tenant: str, collection_id: str, query: DocumentQuery) -> list[Document]:
        """Return documents of a collection, one more than the page's limit where more follow."""
        ...

    async def documents_in(self, tenant: str, collection_id: str) -> list[Document]:
        """Return every document of a collection that is not being deleted."""
        ...

    async def version(self, document_id: str, number: int) -> Version | None:
        """Return one version."""
        ...

    async def deletion(self, tenant: str, document_id: str) -> Deletion | None:
        """Return the receipt of a deletion."""
        ...

    async def batch(self, tenant: str, batch_id: str) -> FileBatch | None:
        """Return a batch with its use."""
        ...

    async def batch_documents(self, tenant: str, batch_id: str) -> list[Document]:
        """Return the documents of a batch that are not being deleted."""
        ...

    async def tenants(self) -> list[str]:
        """Return every tenant that keeps something."""
        ...

    async def unknown_documents(self, document_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that no document has."""
        ...


class Change(Reading, Protocol):
    """A transaction: all of it or nothing, and what is read in it stays true until its end."""

    async def add_file(self, file: File) -> None:
        """Note a file, and that its bytes are kept."""
        ...

    async def remove_file(self, file: File) -> None:
        """Forget a file."""
        ...

    async def hold_content(self, tenant: str, digest: str) -> int:
        """Keep other transactions from keeping or removing these bytes; return how many records refer to them."""
        ...

    async def forget_content(self, tenant: str, digest: str) -> None:
        """Note that these bytes are no longer kept."""
        ...

    async def idle_content(self, tenant: str) -> list[str]:
        """Return digests of bytes that no record refers to."""
        ...

    async def content(self, tenant: str, digests: Sequence[str]) -> set[str]:
        """Return those of the digests whose bytes are noted as kept."""
        ...

    async def put_collection(self, collection: Collection) -> None:
        """Add a collection or replace its record."""
        ...

    async def hold_collection(self, collection_id: str) -> None:
        """Keep other transactions from changing a collection and from adding documents to it."""
        ...

    async def touch_collection(self, collection_id: str, at: float) -> None:
        """Note that a collection was changed."""
        ...

    async def remove_collection(self, collection_id: str) -> None:
        """Forget a collection and its batches."""
        ...

    async def add_document(self, document: Document) -> None:
        """Note a document with its first version.

        Raises:
            Conflict: Another document of the collection took the key meanwhile.
        """
        ...

    async def add_version(self, tenant: str, version: Version) -> None:
        """Note a further version of a document and make it the newest.

        Raises:
            Conflict: Another upload took the number meanwhile.
        """
        ...

    async def put_version(self, version: Version) -> None:
        """Replace the record of a version."""
        ...

    async def supersede(self, document_id: str, before: int, at: float) -> list[int]:
        """Cancel every version below `before` that waits for its reader; return their numbers."""
        ...

    async def announced_after(self, document_id: str, number: int) -> bool:
        """Return whether a version above `number` was announced to the index."""
        ...

    async def activate(self, document_id: str, number: int, at: float) -> None:
        """Note that a version is searchable, unless a higher one is."""
        ...

    async def set_access(self, document: Document, principals: tuple[str, ...], at: float) -> bool:
        """Replace an access list and raise its revision; False when it is no longer that of `document`."""
        ...

    async def set_attributes(self, document: Document, attributes: Attributes, at: float) -> bool:
        """Replace attributes and raise their revision; False when they are no longer those of `document`."""
        ...

    async def begin_deletion(self, document: Document, receipt: Deletion, at: float) -> bool:
        """Mark a document as going, free its key, end its jobs, and open the receipt; False when it was marked."""
        ...

    async def put_deletion(self, deletion: Deletion) -> None:
        """Replace a receipt."""
        ...

    async def remove_document(self, document_id: str) -> tuple[list[str], int]:
        """Forget a document; return the digests it referred to and the number of its versions."""
        ...

    async def count_versions(self, document_id: str) -> int:
        """Return how many versions of a document are on record."""
        ...

    async def count_events(self, document_id: str) -> int:
        """Return how many facts about a document wait to be sent."""
        ...

    async def add_batch(self, batch: FileBatch, documents: Sequence[Document]) -> None:
        """Note a batch and the documents in it."""
        ...

    async def cancel_batch(self, batch_id: str) -> None:
        """Note that a batch was cancelled."""
        ...

    async def add_parse_job(self, tenant: str, document_id: str, number: int) -> None:
        """Ask for a version to be read."""
        ...

    async def cancel_parse_jobs(self, document_id: str) -> None:
        """Withdraw what was asked for a document."""
        ...

    async def complete(self, job: Job) -> None:
        """Note that a job is done.

        Raises:
            Conflict: The job was cancelled or handed to another worker.
        """
        ...

    async def announce(self, tenant: str, fact: Fact) -> None:
        """Tell other rooms once this transaction is kept."""
        ...


class Ledger(Reading, Protocol):
    """The room's records."""

    def change(self) -> AbstractAsyncContextManager[Change]:
        """Open a transaction; it is kept when the block ends and undone on an error.

        Raises:
            Unavailable: The database is away.
        """
        ...
