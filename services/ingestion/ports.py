"""What ingestion needs from the world."""

from pathlib import Path
from typing import Protocol

from services.ingestion.domain.text import Chunking, ParsedDocument

__all__ = ["DocumentReader"]


class DocumentReader(Protocol):
    """Reads files of every supported kind; a hostile file harms nobody but its own reading."""

    async def read(self, path: Path, *, filename: str, chunking: Chunking) -> ParsedDocument:
        """Return the text and the chunks of the file at `path`, which was uploaded as `filename`.

        Cancelling the call ends the reading at once.

        Raises:
            Unreadable: The file cannot be read; its `reason` is for the document's owner.
        """
        ...

    def media_type(self, head: bytes, *, filename: str) -> str:
        """Return the type of a file that begins with `head` (64 KiB are enough), by content before name."""
        ...
