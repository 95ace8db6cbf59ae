"""The blobs of an installation as files: each content once, under its digest, and a list of the keys."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.chassis.blobs import BlobEntry, BlobStore
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.moving.part import Tell

__all__ = ["BlobFiles", "KeptBlob"]

_LIST: Final = "keys.jsonl.gz"
# Blobs on their way at once: most are small, and what takes time is to wait for the disk or the store.
_AT_ONCE: Final = 8
_PART_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptBlob:
    """A blob of an archive: its content is SHA-256 `digest` as hexadecimal."""

    key: str
    size: int
    digest: str


class BlobFiles:
    """The blobs in an archive.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What was copied: its mark in the store, and what became of it.
        self._copied: dict[str, tuple[str, KeptBlob]] = {}

    async def pack(self, blobs: BlobStore, tell: Tell) -> int:
        """Copy what is not copied yet, or was replaced since; return how many were.

        What went meanwhile stays as it was copied: the tables, read in between, may still name it.

        Raises:
            Unavailable: The store is away.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        wanted = [
            entry
            for entry in await blobs.entries()
            if (known := self._copied.get(entry.key)) is None or known[0] != entry.mark
        ]
        for first in range(0, len(wanted), _AT_ONCE):
            tell("blobs", first, len(wanted))
            some = wanted[first : first + _AT_ONCE]
            copies = await asyncio.gather(*(self._copy(blobs, entry, f"copy-{at}") for at, entry in enumerate(some)))
            for entry, kept in zip(some, copies, strict=True):
                if kept is not None:
                    self._copied[entry.key] = (entry.mark, kept)
        tell("blobs", len(wanted), len(wanted))
        self._write()
        return len(wanted)

    def kept(self) -> list[KeptBlob]:
        """Return what the archive holds, by key.

        Raises:
            InvalidInput: The list cannot be read.
        """
        try:
            with gzip.open(self._folder / _LIST, "rt", encoding="utf-8") as file:
                return [KeptBlob(*json.loads(line)) for line in file]
        except (OSError, EOFError, ValueError, TypeError) as error:
            raise InvalidInput(f"{self._folder / _LIST} is not a list of blobs.", private=repr(error)) from error

    def verify(self, tell: Tell) -> None:
        """See that every content is there and is what its name says.

        Raises:
            InvalidInput: One is not.
        """
        sizes = {blob.digest: blob.size for blob in self.kept()}
        for done, (digest, size) in enumerate(sizes.items()):
            if done % 100 == 0:
                tell("blobs verified", done, len(sizes))
            path = self._path(digest)
            if not path.is_file() or path.stat().st_size != size or _digest(path) != digest:
                raise InvalidInput(f"{path} is missing or damaged; the archive cannot be imported.")
        tell("blobs verified", len(sizes), len(sizes))

    async def check(self, blobs: BlobStore) -> None:
        """See that the store holds nothing but what an interrupted import of this archive may have left.

        Raises:
            Conflict: It holds something else.
            Unavailable: The store is away.
        """
        ours: Mapping[str, int] = {blob.key: blob.size for blob in self.kept()}
        for entry in await blobs.entries():
            if ours.get(entry.key) != entry.size:
                raise Conflict(
                    f"blobs: the target holds {entry.key!r}, which is not of this archive, and an import needs an empty "
                    "store. Import into another folder, bucket or prefix (docs/moving.md)."
                )

    async def unpack(self, blobs: BlobStore, tell: Tell) -> int:
        """Put everything into the store; return how many there are.

        Raises:
            InvalidInput: A content is not what its name says.
            Unavailable: The store is away or full.
        """
        kept = self.kept()
        for first in range(0, len(kept), _AT_ONCE):
            tell("blobs", first, len(kept))
            await asyncio.gather(*(self._put(blobs, blob) for blob in kept[first : first + _AT_ONCE]))
        tell("blobs", len(kept), len(kept))
        return len(kept)

    async def _copy(self, blobs: BlobStore, entry: BlobEntry, name: str) -> KeptBlob | None:
        draft = self._folder / name
        digest, size = hashlib.sha256(), 0
        try:
            with await asyncio.to_thread(draft.open, "wb") as file:
                async with aclosing(blobs.stream(entry.key)) as parts:
                    async for part in parts:
                        digest.update(part)
                        size += len(part)
                        await asyncio.to_thread(file.write, part)
        except NotFound:
            # It went between the list and now: nothing names it any more.
            draft.unlink(missing_ok=True)
            return None
        kept = KeptBlob(entry.key, size, digest.hexdigest())
        path = self._path(kept.digest)
        path.parent.mkdir(exist_ok=True)
        draft.replace(path)
        return kept

    async def _put(self, blobs: BlobStore, blob: KeptBlob) -> None:
        found = await blobs.put_stream(blob.key, self._parts(blob.digest))
        if found != (blob.size, blob.digest):
            raise InvalidInput(f"{self._path(blob.digest)} changed while it was read.")

    async def _parts(self, digest: str) -> AsyncIterator[bytes]:
        with await asyncio.to_thread(self._path(digest).open, "rb") as file:
            while part := await asyncio.to_thread(file.read, _PART_BYTES):
                yield part

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _write(self) -> None:
        with gzip.open(self._folder / _LIST, "wt", encoding="utf-8", newline="\n") as file:
            for _, blob in sorted(self._copied.values(), key=lambda copied: copied[1].key):
                file.write(json.dumps([blob.key, blob.size, blob.digest]) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
