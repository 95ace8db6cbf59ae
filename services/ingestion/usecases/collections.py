"""Collections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.chassis.auth import Caller
from services.chassis.ids import new_id
from services.ingestion.domain.access import checked_principals
from services.ingestion.domain.collections import (
    Collection,
    checked_expiry_days,
    checked_metadata,
    checked_name,
)
from services.ingestion.domain.documents import Page
from services.ingestion.domain.text import Chunking
from services.ingestion.ports import Ledger
from services.ingestion.usecases.deleting import Deleting
from services.ingestion.usecases.lookup import collection_for, managed_collection

__all__ = ["CollectionChange", "Collections"]


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """New values; None leaves what is there."""

    name: str | None = None
    metadata: Mapping[str, str] | None = None
    default_principals: Sequence[str] | None = None
    expires_after_days: int | None = None


class Collections:
    """Makes, shows, changes and deletes collections.

    Args:
        ledger: Records.
        deleting: Deletes the documents of a collection.
        now: Seconds since 1970.
    """

    def __init__(self, *, ledger: Ledger, deleting: Deleting, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._deleting = deleting
        self._now = now

    async def create(self, caller: Caller, wanted: CollectionChange, chunking: Chunking) -> Collection:
        """Make an empty collection.

        Raises:
            InvalidInput: A value is outside what is allowed.
        """
        now = self._now()
        empty = Collection(
            collection_id=new_id("vs_"),
            tenant=caller.tenant,
            owner=caller.subject,
            name="",
            metadata={},
            default_principals=(),
            chunking=chunking,
            expires_after_days=0,
            created_at=now,
            last_active_at=now,
        )
        collection = _changed(empty, wanted)
        async with self._ledger.change() as change:
            await change.put_collection(collection)
        return collection

    async def get(self, caller: Caller, collection_id: str) -> Collection:
        """Return a collection with what it holds.

        Raises:
            NotFound: None in the caller's tenant.
        """
        found = await collection_for(self._ledger, caller, collection_id)
        return replace(found, use=await self._ledger.collection_use(collection_id))

    async def list(self, caller: Caller, page: Page, *, name: str) -> tuple[list[Collection], bool]:
        """Return a page of the tenant's collections, and whether more follow."""
        found = await self._ledger.collections(caller.tenant, page, name=name)
        return found[: page.limit], len(found) > page.limit

    async def update(self, caller: Caller, collection_id: str, wanted: CollectionChange) -> Collection:
        """Change a collection; its documents keep the access that they were given.

        Raises:
            InvalidInput: A value is outside what is allowed.
            NotFound: None in the caller's tenant.
            PermissionDenied: It is somebody else's.
        """
        async with self._ledger.change() as change:
            await change.hold_collection(collection_id)
            present = await managed_collection(change, caller, collection_id)
            changed = replace(_changed(present, wanted), last_active_at=self._now())
            await change.put_collection(changed)
        return replace(changed, use=await self._ledger.collection_use(collection_id))

    async def delete(self, caller: Caller, collection_id: str) -> Sequence[str]:
        """Delete a collection with all its documents; return those that go with it.

        Raises:
            NotFound: None in the caller's tenant.
            PermissionDenied: It is somebody else's.
            Unavailable: The index cannot be asked to withhold the documents; the collection is still there.
        """
        await managed_collection(self._ledger, caller, collection_id)
        gone: list[str] = []
        # A document that is uploaded while the others are withheld must not outlive the collection.
        while documents := await self._ledger.documents_in(caller.tenant, collection_id):
            await self._deleting.withhold_and_delete(documents, requested_by=caller.subject)
            gone += (document.document_id for document in documents)
        async with self._ledger.change() as change:
            await change.hold_collection(collection_id)
            late = await change.documents_in(caller.tenant, collection_id)
            if not late:
                await change.remove_collection(collection_id)
        return [*gone, *(await self.delete(caller, collection_id) if late else ())]

    async def expire(self) -> int:
        """Delete collections whose time has come, with their documents; return how many."""
        expired = await self._ledger.expired_collections(self._now())
        for collection in expired:
            await self._deleting.delete_expired(
                await self._ledger.documents_in(collection.tenant, collection.collection_id)
            )
            async with self._ledger.change() as change:
                await change.hold_collection(collection.collection_id)
                if not await change.documents_in(collection.tenant, collection.collection_id):
                    await change.remove_collection(collection.collection_id)
        return len(expired)


def _changed(collection: Collection, wanted: CollectionChange) -> Collection:
    """Return the collection with what is wanted, checked."""
    if wanted.name is not None:
        collection = replace(collection, name=checked_name(wanted.name))
    if wanted.metadata is not None:
        collection = replace(collection, metadata=checked_metadata(wanted.metadata))
    if wanted.default_principals is not None:
        principals = checked_principals(wanted.default_principals, param="default_principals")
        collection = replace(collection, default_principals=principals)
    if wanted.expires_after_days is not None:
        collection = replace(collection, expires_after_days=checked_expiry_days(wanted.expires_after_days))
    return collection
