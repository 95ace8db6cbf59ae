"""Folders of the trainer as archives in the blob store: checkpoints and reward models outlive the machine they came from."""

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from services.finetuning.ports.blobs import Blobs

__all__ = ["Archives"]

_READ_BYTES: Final = 1 << 20


class Archives:
    """Keeps folders under keys and brings them back. Weights do not compress: the archives are plain tar files.

    Args:
        blobs: Where they lie.
    """

    def __init__(self, *, blobs: Blobs) -> None:
        self._blobs = blobs

    async def keep(self, folder: Path, key: str) -> None:
        """Keep a folder's files under a key."""
        with tempfile.NamedTemporaryFile(prefix="archive-", dir=folder.parent) as packed:
            await asyncio.to_thread(_pack, folder, Path(packed.name))
            await self._blobs.put_stream(key, _parts(Path(packed.name)))

    async def fetch(self, key: str, folder: Path) -> Path:
        """Bring a folder back, replacing what lies there; return it.

        Raises:
            NotFound: Nothing is kept under the key.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix="archive-", dir=folder.parent) as packed:
            await self._blobs.save(key, Path(packed.name))
            await asyncio.to_thread(_unpack, Path(packed.name), folder)
        return folder

    async def fetch_file(self, key: str, path: Path) -> None:
        """Bring one file back."""
        path.parent.mkdir(parents=True, exist_ok=True)
        await self._blobs.save(key, path)

    async def forget(self, keys: list[str]) -> None:
        """Remove archives."""
        await self._blobs.delete(keys)


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as packed:
        packed.add(folder, arcname=".")


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        # These archives are our own; the filter costs nothing and keeps names inside the folder all the same.
        packed.extractall(folder, filter="data")


async def _parts(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while piece := await asyncio.to_thread(source.read, _READ_BYTES):
            yield piece
