"""Files of the ingestion room: rows that people sent, and rows that were built."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

FINE_TUNE: Final = "fine-tune"
"""The purpose of files with training rows."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's record."""

    file_id: str
    filename: str
    purpose: str
    size_bytes: int
    digest: str


class Files(Protocol):
    """Files under the caller's rights."""

    async def about(self, file_id: str) -> StoredFile:
        """Return a file's record.

        Raises:
            NotFound: There is none that the caller may know of.
        """

    def download(self, file_id: str) -> AsyncIterator[bytes]:
        """Stream a file's bytes.

        Raises:
            NotFound: There is none that the caller may know of.
        """

    async def upload(self, filename: str, pieces: Iterable[bytes], *, purpose: str = FINE_TUNE) -> StoredFile:
        """Keep bytes as a file that the caller owns."""

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone is deleted.

        Raises:
            PermissionDenied: It is somebody else's.
        """
