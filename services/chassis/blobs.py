"""Bytes by key: a local folder, memory (for tests), or an S3-compatible bucket, through obstore."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore, S3Store

from services.chassis.errors import InvalidInput, NotFound, Unavailable

__all__ = ["BlobStore", "open_blobs"]

# Bytes handed on at a time.
_PART_BYTES: Final = 1024 * 1024


class BlobStore:
    """Bytes by key. What `put` and `put_stream` have returned from is on the disk.

    Args:
        store: An obstore store.
        folder: Folder of a local store, for flushing to disk; None for the others, which flush by themselves.
    """

    def __init__(self, store: Any, *, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, replacing what was there.

        Raises:
            Unavailable: The store is away or full.
        """
        await self._guard(obstore.put_async(self._store, key, data))
        await self._flush(key)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> tuple[int, str]:
        """Keep what `parts` yields under `key`; return (bytes, SHA-256 as hexadecimal).

        Nothing is left behind when `parts` raises.

        Raises:
            Unavailable: The store is away or full.
        """
        digest = hashlib.sha256()
        size = 0

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            async for part in parts:
                digest.update(part)
                size += len(part)
                yield part

        await self._guard(obstore.put_async(self._store, key, measured()))
        await self._flush(key)
        return size, digest.hexdigest()

    async def get(self, key: str) -> bytes:
        """Return the bytes under `key`.

        Raises:
            NotFound: Nothing is kept under it.
            Unavailable: The store is away.
        """
        answer = await self._guard(obstore.get_async(self._store, key))
        return bytes(await self._guard(answer.bytes_async()))

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes under `key` in parts of about 1 MiB.

        Raises:
            NotFound: Nothing is kept under it.
            Unavailable: The store is away.
        """
        answer = await self._guard(obstore.get_async(self._store, key))
        parts = aiter(answer.stream(min_chunk_size=_PART_BYTES))
        while True:
            try:
                part = await self._guard(anext(parts))
            except StopAsyncIteration:
                return
            yield bytes(part)

    async def save(self, key: str, path: Path) -> None:
        """Write the bytes under `key` to a file, replacing it; the system copies what lies on this machine.

        Raises:
            NotFound: Nothing is kept under it.
            Unavailable: The store is away.
            OSError: The file cannot be written.
        """
        if self._folder is not None:
            # Whether it is there is for the store to say: of a file that cannot be written the system says the same.
            await self.size(key)
            await asyncio.to_thread(shutil.copyfile, self._folder / key, path)
            return
        with await asyncio.to_thread(path.open, "wb") as file:
            async with aclosing(self.stream(key)) as parts:
                async for part in parts:
                    # In a thread: a slow disk holds up nobody else.
                    await asyncio.to_thread(file.write, part)

    async def size(self, key: str) -> int:
        """Return the number of bytes under `key`.

        Raises:
            NotFound: Nothing is kept under it.
            Unavailable: The store is away.
        """
        return int((await self._guard(obstore.head_async(self._store, key)))["size"])

    async def exists(self, key: str) -> bool:
        """Return whether something is kept under `key`."""
        try:
            await self.size(key)
        except NotFound:
            return False
        return True

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove what is kept under `keys`; return how many were there."""
        removed = 0
        for key in keys:
            if await self.exists(key):
                await self._guard(obstore.delete_async(self._store, key))
                removed += 1
        return removed

    async def rename(self, source: str, target: str) -> None:
        """Move what is kept under `source` to `target`, replacing what was there."""
        await self._guard(obstore.rename_async(self._store, source, target))
        await self._flush(target)

    async def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix` (whole path segments), sorted."""
        keys = [str(entry["path"]) async for page in obstore.list(self._store, prefix) for entry in page]
        return sorted(keys)

    async def _guard(self, work: Any) -> Any:
        try:
            return await work
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise NotFound("No such blob.", private=repr(error)) from error
        except (OSError, GenericError, obstore.exceptions.BaseError) as error:
            raise Unavailable("The blob store is not available.", private=repr(error), retry_after_s=1.0) from error

    async def _flush(self, key: str) -> None:
        """Bring a local file and its folder entry to the disk: obstore leaves both to the page cache."""
        if self._folder is None:
            return
        path = self._folder / key

        def flush() -> None:
            for target in (path, path.parent):
                handle = os.open(target, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

        await asyncio.to_thread(flush)


def open_blobs(url: str) -> BlobStore:
    """Return the store that `url` names: `file:///folder`, `memory://` or `s3://bucket/prefix`.

    Raises:
        InvalidInput: The scheme is not offered.
    """
    scheme, _, rest = url.partition("://")
    match scheme:
        case "file":
            folder = Path(rest)
            folder.mkdir(parents=True, exist_ok=True)
            return BlobStore(LocalStore(str(folder)), folder=folder)
        case "memory":
            return BlobStore(MemoryStore())
        case "s3":
            return BlobStore(S3Store.from_url(url))
        case _:
            raise InvalidInput(f"blobs_url: {scheme!r} is not offered; use file:///FOLDER, memory:// or s3://BUCKET.")
