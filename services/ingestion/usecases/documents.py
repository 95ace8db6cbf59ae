"""Looking at documents, their text, and ending the work on them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.chassis.auth import Caller
from services.chassis.errors import Conflict, NotFound
from services.ingestion.domain.access import manages_all, may_manage, may_read
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.blobs import Blob, version_key
from services.ingestion.domain.documents import (
    WAITING,
    Document,
    DocumentQuery,
    DocumentState,
    checked_attributes,
)
from services.ingestion.domain.sections import unpacked_sections
from services.ingestion.domain.text import Section
from services.ingestion.ports import Blobs, Change, Ledger
from services.ingestion.telemetry import Metrics
from services.ingestion.usecases.attributes import put_attributes
from services.ingestion.usecases.lookup import collection_for, managed_document, readable_document

__all__ = ["Documents", "StoredText"]


@dataclass(frozen=True, slots=True)
class StoredText:
    """The text of a version, with its places."""

    document_id: str
    version: int
    text: str
    sections: tuple[Section, ...]


class Documents:
    """Shows documents and changes what is said about them.

    Args:
        ledger: Records.
        blobs: Bytes.
        metrics: Where cancelled versions are counted.
        now: Seconds since 1970.
    """

    def __init__(self, *, ledger: Ledger, blobs: Blobs, metrics: Metrics, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._metrics = metrics
        self._now = now

    async def get(self, caller: Caller, document_id: str) -> Document:
        """Return a document's record, also while it is being deleted.

        Raises:
            NotFound: None that the caller may know of.
        """
        return await readable_document(self._ledger, caller, document_id)

    async def get_by_file(self, caller: Caller, collection_id: str, file_id: str) -> Document:
        """Return the document of a collection that is made of a file.

        Raises:
            NotFound: None that the caller may know of.
        """
        found = await self._ledger.document_of_file(caller.tenant, collection_id, file_id)
        if found is None or not may_read(caller, owner=found.owner, principals=found.principals):
            raise NotFound(f"file_id: {file_id!r} was not found in {collection_id!r}.", param="file_id")
        return found

    async def list(self, caller: Caller, collection_id: str, query: DocumentQuery) -> tuple[list[Document], bool]:
        """Return the documents of a collection that the caller may see, and whether more follow.

        Raises:
            NotFound: No such collection.
        """
        await collection_for(self._ledger, caller, collection_id)
        if not manages_all(caller):
            query = replace(query, visible_to=caller.principals, owner=caller.subject)
        found = await self._ledger.documents(caller.tenant, collection_id, query)
        return found[: query.page.limit], len(found) > query.page.limit

    async def update(self, caller: Caller, document_id: str, attributes: str) -> Document:
        """Replace a document's attributes.

        Raises:
            InvalidInput: Not a JSON object within the limits.
            NotFound: No such document.
        """
        wanted = checked_attributes(attributes)
        await managed_document(self._ledger, caller, document_id)
        async with self._ledger.change() as change:
            document = await managed_document(change, caller, document_id)
            if dict(document.attributes) != wanted:
                await put_attributes(change, self._blobs, document, wanted, self._now())
        return await readable_document(self._ledger, caller, document_id)

    async def text(self, caller: Caller, document_id: str, number: int) -> StoredText:
        """Return the stored text of a version; 0 stands for the one that is searchable.

        Raises:
            NotFound: No such document or version, or it has no text.
            Conflict: No version is searchable yet.
        """
        document = await readable_document(self._ledger, caller, document_id)
        if document.deleting:
            raise NotFound(f"document_id: {document_id!r} was deleted.", param="document_id")
        if number == 0 and document.active_version == 0:
            raise Conflict(f"document_id: {document_id!r} has no searchable version; it is {document.state}.")
        number = number or document.active_version
        version = await self._ledger.version(document_id, number)
        if version is None or version.state not in {DocumentState.CHUNKED, DocumentState.INDEXED}:
            raise NotFound(f"version: {number} of {document_id!r} has no text.", param="version")
        text = await self._blobs.get(version_key(caller.tenant, Blob.TEXT, document_id, number))
        sections = await self._blobs.get(version_key(caller.tenant, Blob.SECTIONS, document_id, number))
        return StoredText(document_id, number, text.decode(), unpacked_sections(sections))

    async def cancel(self, caller: Caller, document_id: str) -> Document:
        """End the work on versions that were not announced to the index; return the document as it is then.

        Raises:
            NotFound: No such document.
            PermissionDenied: The caller may read it and no more.
        """
        async with self._ledger.change() as change:
            document = await managed_document(change, caller, document_id)
            await self._cancel(change, document)
        return await readable_document(self._ledger, caller, document_id)

    async def batch(self, caller: Caller, collection_id: str, batch_id: str) -> FileBatch:
        """Return a batch with its counts.

        Raises:
            NotFound: None that the caller may know of.
        """
        found = await self._ledger.batch(caller.tenant, batch_id)
        if found is None or found.collection_id != collection_id or not may_manage(caller, owner=found.owner):
            raise NotFound(f"batch_id: {batch_id!r} was not found in {collection_id!r}.", param="batch_id")
        return found

    async def cancel_batch(self, caller: Caller, collection_id: str, batch_id: str) -> FileBatch:
        """Cancel the documents of a batch that were not announced to the index.

        Raises:
            NotFound: None that the caller may know of.
        """
        await self.batch(caller, collection_id, batch_id)
        async with self._ledger.change() as change:
            for document in await change.batch_documents(caller.tenant, batch_id):
                if may_manage(caller, owner=document.owner):
                    await self._cancel(change, document)
            await change.cancel_batch(batch_id)
        return await self.batch(caller, collection_id, batch_id)

    async def _cancel(self, change: Change, document: Document) -> None:
        if document.newest.state not in WAITING:
            return
        await change.cancel_parse_jobs(document.document_id)
        ended = await change.supersede(document.document_id, document.newest.number + 1, self._now())
        self._metrics.documents.labels(outcome="cancelled").inc(len(ended))
