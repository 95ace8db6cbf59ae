"""Housekeeping: what has expired goes, and what a crash left behind is cleared."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from services.ingestion.domain.blobs import UPLOADS, Blob
from services.ingestion.ports import Blobs, Ledger
from services.ingestion.usecases.collections import Collections
from services.ingestion.usecases.files import Files
from services.ingestion.usecases.receiving import release

__all__ = ["Sweep"]

_log = structlog.get_logger()

# No upload takes longer: calls have a deadline of at most 900 s.
_ABANDONED_AFTER_S: Final = 3_600


class Sweep:
    """Removes what nobody needs any more.

    Args:
        ledger: Records.
        blobs: Bytes.
        files: Expiry of files.
        collections: Expiry of collections.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        files: Files,
        collections: Collections,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._files = files
        self._collections = collections
        self._now = now

    async def expired(self) -> None:
        """Remove files and collections whose time has come, and uploads that were given up."""
        files, collections = await self._files.expire(), await self._collections.expire()
        abandoned = [key for key in await self._blobs.list(UPLOADS) if self._age_s(key) > _ABANDONED_AFTER_S]
        await self._blobs.delete(abandoned)
        if files or collections or abandoned:
            _log.info("swept", files=files, collections=collections, uploads=len(abandoned))

    async def leftovers(self) -> int:
        """Remove what a crash left between the blob store and the records; return how many blobs went."""
        removed = 0
        for tenant in await self._ledger.tenants():
            removed += await self._unnoted_bytes(tenant) + await self._blobs_of_nobody(tenant)
            async with self._ledger.change() as change:
                idle = await change.idle_content(tenant)
            for digest in idle:
                async with self._ledger.change() as change:
                    removed += await release(change, self._blobs, tenant, digest)
        if removed:
            _log.info("leftovers_removed", blobs=removed)
        return removed

    async def _unnoted_bytes(self, tenant: str) -> int:
        """Remove bytes that were put in their place by a transaction that was not kept."""
        keys = {key.rpartition("/")[2]: key for key in await self._blobs.list(f"{tenant}/files")}
        async with self._ledger.change() as change:
            known = await change.content(tenant, list(keys))
        removed = 0
        for digest in sorted(keys.keys() - known):
            # One by one and held: a transaction that put bytes in their place may not be kept yet, and will be.
            async with self._ledger.change() as change:
                removed += await release(change, self._blobs, tenant, digest)
        return removed

    async def _blobs_of_nobody(self, tenant: str) -> int:
        """Remove texts and chunks of documents that are on no record any more."""
        owners: dict[str, list[str]] = {}
        for folder in sorted({folder for folder, _ in Blob.ALL}):
            for key in await self._blobs.list(f"{tenant}/{folder}"):
                owners.setdefault(key.split("/")[2], []).append(key)
        unknown = await self._ledger.unknown_documents(sorted(owners))
        return await self._blobs.delete([key for owner in sorted(unknown) for key in owners[owner]])

    def _age_s(self, key: str) -> float:
        """Return how old an upload is: the first 48 bits of its id are milliseconds since 1970."""
        digits = key.rpartition("_")[2]
        try:
            born_ms = UUID(hex=digits).int >> 80
        except ValueError:
            return 0.0
        return self._now() - born_ms / 1000
