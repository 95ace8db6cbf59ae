"""Deletions and their receipts: what each store held, and that it holds nothing any more."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["STORES", "Deletion", "StoreCount", "open_receipt"]

# Every place that holds something of a document.
STORES: Final = ("index", "versions", "blobs", "files", "events")


@dataclass(frozen=True, slots=True)
class StoreCount:
    """One store in a deletion.

    Attributes:
        store: Name of the store.
        removed: What was removed.
        remaining: What was counted afterwards.
        counted: Whether the count was taken.
    """

    store: str
    removed: int = 0
    remaining: int = 0
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """The receipt of a deletion. Times are seconds since 1970, UTC.

    Attributes:
        document_id: Document.
        tenant: Tenant it belonged to.
        collection_id: Collection that held it.
        owner: Who owned it.
        requested_by: Who asked for the deletion.
        withheld_at: When searches stopped returning it; None until the index said so (expiry).
        completed_at: When the last store was counted to zero; None while the work goes on.
        stores: What each store held and holds.
    """

    document_id: str
    tenant: str
    collection_id: str
    owner: str
    requested_by: str
    withheld_at: float | None
    completed_at: float | None = None
    stores: tuple[StoreCount, ...] = ()

    def with_counts(self, counts: Iterable[StoreCount]) -> "Deletion":
        """Return the receipt with these stores counted.

        A count that is taken again after a crash finds less to remove; the larger number is what the store held.
        """
        known = {entry.store: entry for entry in self.stores}
        for count in counts:
            before = known.get(count.store)
            removed = max(count.removed, before.removed if before else 0)
            known[count.store] = replace(count, removed=removed)
        return replace(self, stores=tuple(known.values()))

    def completed(self, at: float) -> "Deletion":
        """Return the receipt of a deletion that is done; one that no call withheld was withheld by the index now."""
        return replace(self, completed_at=at, withheld_at=at if self.withheld_at is None else self.withheld_at)

    @property
    def is_clean(self) -> bool:
        """Whether every store was counted and holds nothing."""
        return all(entry.counted and entry.remaining == 0 for entry in self.stores)


def open_receipt(
    *, document_id: str, tenant: str, collection_id: str, owner: str, requested_by: str, withheld_at: float | None
) -> Deletion:
    """Return a receipt on which no store has been counted yet."""
    return Deletion(
        document_id=document_id,
        tenant=tenant,
        collection_id=collection_id,
        owner=owner,
        requested_by=requested_by,
        withheld_at=withheld_at,
        stores=tuple(StoreCount(store) for store in STORES),
    )
