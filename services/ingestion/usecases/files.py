"""Files of every purpose."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput
from services.ingestion.domain.blobs import file_key
from services.ingestion.domain.documents import Page
from services.ingestion.domain.files import File, checked_expiry, checked_purpose, clean_filename
from services.ingestion.ports import Blobs, Ledger
from services.ingestion.usecases.deleting import Deleting
from services.ingestion.usecases.lookup import file_for, managed_file
from services.ingestion.usecases.receiving import Intake, release

__all__ = ["Files", "UploadFileHeader", "page_of"]


@dataclass(frozen=True, slots=True)
class UploadFileHeader:
    """What is said about a file before its bytes."""

    filename: str
    purpose: str
    expires_after_s: int


class Files:
    """Keeps, shows and removes files.

    Args:
        ledger: Records.
        blobs: Bytes.
        intake: Takes uploads in.
        deleting: Deletes the documents that are made of a file.
        max_bytes: Largest file.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        intake: Intake,
        deleting: Deleting,
        max_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._intake = intake
        self._deleting = deleting
        self._max_bytes = max_bytes
        self._now = now

    async def upload(self, caller: Caller, header: UploadFileHeader, parts: AsyncIterator[bytes]) -> File:
        """Keep a file.

        Raises:
            InvalidInput: The header is wrong.
            TooLarge: More bytes than a file may have.
        """
        purpose = checked_purpose(header.purpose)
        expires_after_s = checked_expiry(header.expires_after_s)
        filename = clean_filename(header.filename)
        async with self._intake.receive(parts, filename=filename, max_bytes=self._max_bytes) as received:
            file = received.file(
                caller, filename=filename, purpose=purpose, now=self._now(), expires_after_s=expires_after_s
            )
            async with self._ledger.change() as change:
                await self._intake.keep(change, file, received)
        return file

    async def get(self, caller: Caller, file_id: str) -> File:
        """Return a file's record."""
        return await file_for(self._ledger, caller, file_id)

    async def list(self, caller: Caller, page: Page, *, purpose: str) -> tuple[list[File], bool]:
        """Return a page of the caller's files (an administrator: of the tenant's), and whether more follow."""
        if purpose:
            checked_purpose(purpose)
        owner = None if caller.is_administrator else caller.subject
        found = await self._ledger.files(caller.tenant, page, owner=owner, purpose=purpose)
        return found[: page.limit], len(found) > page.limit

    async def download(self, caller: Caller, file_id: str) -> AsyncIterator[bytes]:
        """Return the bytes of a file, in parts of about 1 MiB."""
        file = await file_for(self._ledger, caller, file_id)
        return self._blobs.stream(file_key(file.tenant, file.digest))

    async def delete(self, caller: Caller, file_id: str) -> tuple[str, ...]:
        """Remove a file and every document made of it; return the ids of those documents.

        Raises:
            Unavailable: The index cannot be asked to withhold the documents; nothing has changed.
        """
        file = await managed_file(self._ledger, caller, file_id)
        documents = await self._ledger.documents_of_file(caller.tenant, file_id)
        await self._deleting.withhold_and_delete(documents, requested_by=caller.subject)
        await self._forget(file)
        return tuple(document.document_id for document in documents)

    async def expire(self) -> int:
        """Remove the files whose time has come, with the documents made of them; return how many."""
        expired = await self._ledger.expired_files(self._now())
        for file in expired:
            documents = await self._ledger.documents_of_file(file.tenant, file.file_id)
            await self._deleting.delete_expired(documents)
            await self._forget(file)
        return len(expired)

    async def _forget(self, file: File) -> None:
        async with self._ledger.change() as change:
            await change.remove_file(file)
            await release(change, self._blobs, file.tenant, file.digest)


def page_of(*, limit: int, default: int, largest: int, after: str, before: str = "", ascending: bool = False) -> Page:
    """Return the page that a list request asks for; a limit of 0 stands for the default.

    Raises:
        InvalidInput: The limit is larger than allowed.
    """
    if limit > largest:
        raise InvalidInput(f"limit: {limit} is not between 1 and {largest}.", param="limit")
    return Page(limit=limit or default, after=after, before=before, ascending=ascending)
