"""Rows of a file that the ingestion room keeps."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import BinaryIO, Final, TypeVar, cast

from services.chassis.errors import InvalidInput
from services.finetuning.domain.row_reading import RowFile, RowLimits, read_rows
from services.finetuning.domain.rows import KIND_OF_STAGE
from services.finetuning.ports.files import FINE_TUNE, Files, StoredFile

__all__ = ["ReadRows", "check_purpose"]

_T = TypeVar("_T")
# What fits is held in memory, the rest goes to the disk.
_IN_MEMORY: Final = 8 << 20
_PIECE: Final = 1 << 20


class ReadRows:
    """Reads training files.

    Args:
        files: Where they are kept.
        limits: What a file may hold.
    """

    def __init__(self, *, files: Files, limits: RowLimits | None = None) -> None:
        self._files = files
        self._limits = limits or RowLimits()

    async def __call__(self, file_id: str, *, stage: str, param: str = "training_file") -> RowFile:
        """Return the rows of a file for a stage, with every fault at its line.

        Args:
            file_id: The file.
            stage: Name of the stage, which says what rows it learns from.
            param: The field that names the file, for errors.

        Raises:
            NotFound: There is no such file that the caller may read.
            InvalidInput: It was stored for another purpose.
        """
        check_purpose(await self._files.about(file_id), param)
        kind = KIND_OF_STAGE[stage]
        return await self.read(file_id, lambda pieces: read_rows(pieces, kind, limits=self._limits))

    async def read(self, file_id: str, reader: Callable[[Iterator[bytes]], _T]) -> _T:
        """Return what a reader makes of a file's bytes; it runs in a thread, so that nobody else waits."""
        async with _spooled(self._files.download(file_id), self._limits.max_file_bytes) as file:
            return await asyncio.to_thread(reader, iter(lambda: file.read(_PIECE), b""))


def check_purpose(file: StoredFile, param: str) -> None:
    """Refuse a file that was not stored as one with training rows.

    Args:
        file: The file's record.
        param: The field that names it, for errors.

    Raises:
        InvalidInput: It was stored for another purpose.
    """
    if file.purpose != FINE_TUNE:
        raise InvalidInput(
            f"{param}: {file.file_id!r} was stored for {file.purpose!r}; use a file stored for {FINE_TUNE!r}.",
            param=param,
        )


@asynccontextmanager
async def _spooled(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[BinaryIO]:
    """Hold bytes that come as a stream where a thread can read them; a little more than `most` is enough to refuse them."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        written = 0
        async for piece in pieces:
            file.write(piece)
            written += len(piece)
            if written > most:
                break
        file.seek(0)
        yield cast("BinaryIO", file)
