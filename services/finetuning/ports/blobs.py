"""Bytes by key."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

__all__ = ["Blobs"]


class Blobs(Protocol):
    """The blob store that rooms share; the chassis's store is one."""

    async def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, replacing what was there."""
        ...

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> tuple[int, str]:
        """Keep what `parts` yields under `key`; return (bytes, SHA-256 as hexadecimal)."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes under `key`."""
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes under `key` in parts."""
        ...

    async def save(self, key: str, path: Path) -> None:
        """Write the bytes under `key` to a file, replacing it."""
        ...

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove what is kept under `keys`; return how many were there."""
        ...
