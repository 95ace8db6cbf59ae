"""Deletion: withheld at once, removed by event, counted to zero before the receipt says so."""

from collections.abc import Callable, Sequence

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, NotFound, Unavailable
from services.ingestion.domain.access import may_manage
from services.ingestion.domain.blobs import document_folders
from services.ingestion.domain.deletion import Deletion, StoreCount, open_receipt
from services.ingestion.domain.documents import Document
from services.ingestion.domain.facts import Deleted
from services.ingestion.ports import Blobs, Change, Index, Ledger
from services.ingestion.telemetry import Metrics
from services.ingestion.usecases.lookup import managed_document
from services.ingestion.usecases.receiving import release

__all__ = ["Deleting"]

_log = structlog.get_logger()


class Deleting:
    """Deletes documents and keeps their receipts.

    Args:
        ledger: Records.
        blobs: Bytes.
        index: What must stop returning a document at once.
        metrics: Where deletions are counted.
        now: Seconds since 1970.
    """

    def __init__(
        self, *, ledger: Ledger, blobs: Blobs, index: Index, metrics: Metrics, now: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._index = index
        self._metrics = metrics
        self._now = now

    async def delete(self, caller: Caller, document_id: str) -> Deletion:
        """Withhold a document, begin to remove it, and return its receipt so far.

        Raises:
            NotFound: There is none, or it was deleted before.
            Unavailable: The index cannot be asked; nothing has changed.
        """
        document = await managed_document(self._ledger, caller, document_id)
        await self.withhold_and_delete([document], requested_by=caller.subject)
        return await self.receipt(caller, document_id)

    async def receipt(self, caller: Caller, document_id: str) -> Deletion:
        """Return the receipt of a deletion.

        Raises:
            NotFound: No such document was deleted, or it was not the caller's to know of.
        """
        found = await self._ledger.deletion(caller.tenant, document_id)
        known = found is not None and (caller.subject == found.requested_by or may_manage(caller, owner=found.owner))
        if found is None or not known:
            raise NotFound(f"document_id: no deletion of {document_id!r} was found.", param="document_id")
        return found

    async def withhold_and_delete(self, documents: Sequence[Document], *, requested_by: str) -> None:
        """Withhold documents and begin to remove them.

        A document is never left withheld and alive: when the index goes away half way, those that were withheld are
        deleted, the others stay as they are, and the error says so.

        Raises:
            Unavailable: The index cannot be asked.
        """
        withheld: list[tuple[Document, float]] = []
        failure: BrainError | None = None
        for document in documents:
            try:
                await self._index.withhold(document.document_id)
            except BrainError as error:
                failure = error
                break
            withheld.append((document, self._now()))
        if withheld:
            async with self._ledger.change() as change:
                for document, at in withheld:
                    await self._begin(change, document, requested_by=requested_by, withheld_at=at)
        if failure is not None and not withheld:
            raise failure
        if failure is not None:
            raise Unavailable(
                f"{len(withheld)} of {len(documents)} documents are being deleted; the index went away before the "
                "others. Try again.",
                private=failure.message,
                retry_after_s=failure.retry_after_s or 1.0,
            ) from failure

    async def delete_expired(self, documents: Sequence[Document]) -> None:
        """Begin to remove documents whose time has come; nobody waits, so the event alone withholds them."""
        if not documents:
            return
        async with self._ledger.change() as change:
            for document in documents:
                await self._begin(change, document, requested_by="", withheld_at=None)

    async def finish(self, tenant: str, document_id: str, *, removed: int, remaining: int) -> None:
        """Remove what is left of a document after its chunks are gone from the index, and complete the receipt."""
        receipt = await self._ledger.deletion(tenant, document_id)
        if receipt is None or receipt.completed_at is not None:
            return
        folders = document_folders(tenant, document_id)
        blobs = [key for folder in folders for key in await self._blobs.list(folder)]
        # What the stores held is noted before anything goes: a second attempt would count less.
        async with self._ledger.change() as change:
            receipt = receipt.with_counts(
                [
                    StoreCount("index", removed=removed, remaining=remaining, counted=True),
                    StoreCount("blobs", removed=len(blobs), remaining=len(blobs)),
                ]
            )
            await change.put_deletion(receipt)
        await self._blobs.delete(blobs)
        left = [key for folder in folders for key in await self._blobs.list(folder)]
        async with self._ledger.change() as change:
            digests, versions = await change.remove_document(document_id)
            files = 0
            for digest in digests:
                files += await release(change, self._blobs, tenant, digest)
            now = self._now()
            receipt = receipt.with_counts(
                [
                    StoreCount("versions", versions, await change.count_versions(document_id), counted=True),
                    StoreCount("blobs", 0, len(left), counted=True),
                    StoreCount("files", files, 0, counted=True),
                    StoreCount("events", 0, await change.count_events(document_id), counted=True),
                ]
            )
            await change.put_deletion(receipt.completed(now) if receipt.is_clean else receipt)
        if not receipt.is_clean:
            raise Unavailable("A store still holds something of the document.", private=repr(receipt.stores))
        self._metrics.documents.labels(outcome="deleted").inc()
        _log.info("document_removed", document_id=document_id, versions=versions, blobs=len(blobs), files=files)

    async def _begin(self, change: Change, document: Document, *, requested_by: str, withheld_at: float | None) -> None:
        receipt = open_receipt(
            document_id=document.document_id,
            tenant=document.tenant,
            collection_id=document.collection_id,
            owner=document.owner,
            requested_by=requested_by,
            withheld_at=withheld_at,
        )
        if await change.begin_deletion(document, receipt, self._now()):
            await change.announce(document.tenant, Deleted(document.document_id, document.collection_id))
