"""Taking bytes in: measured while they stream, durable before anybody is told, and nothing left behind on a failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, TooLarge
from services.chassis.ids import new_id
from services.ingestion.domain.blobs import file_key, upload_key
from services.ingestion.domain.files import File, Purpose
from services.ingestion.ports import Blobs, Change, DetectType

__all__ = ["Intake", "Received", "release"]

# What the type of a file is told by.
_HEAD_BYTES: Final = 8_192


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that lie in the blob store, not yet in their place."""

    key: str
    size_bytes: int
    digest: str
    media_type: str

    def file(
        self, caller: Caller, *, filename: str, purpose: Purpose, now: float, expires_after_s: int | None = None
    ) -> File:
        """Return the bytes as a new file of the caller's."""
        return File(
            file_id=new_id("file-"),
            tenant=caller.tenant,
            owner=caller.subject,
            filename=filename,
            purpose=purpose,
            size_bytes=self.size_bytes,
            digest=self.digest,
            media_type=self.media_type,
            created_at=now,
            expires_at=None if expires_after_s is None else now + expires_after_s,
        )


class Intake:
    """Takes uploads in.

    Args:
        blobs: Where the bytes go.
        detect_type: Tells what they are.
    """

    def __init__(self, *, blobs: Blobs, detect_type: DetectType) -> None:
        self._blobs = blobs
        self._detect_type = detect_type

    @asynccontextmanager
    async def receive(self, parts: AsyncIterator[bytes], *, filename: str, max_bytes: int) -> AsyncIterator[Received]:
        """Take in what `parts` yields; unless it was put in its place, it is gone after the block.

        Raises:
            TooLarge: More than `max_bytes`; noticed while streaming.
        """
        key = upload_key()
        head = bytearray()
        broken: list[BrainError] = []

        async def limited() -> AsyncIterator[bytes]:
            size = 0
            try:
                async for part in parts:
                    size += len(part)
                    if size > max_bytes:
                        raise TooLarge(f"file: more than {max_bytes} bytes.", param="file")
                    if len(head) < _HEAD_BYTES:
                        head.extend(part[:_HEAD_BYTES])
                    yield part
            except BrainError as error:
                # The store may wrap what goes wrong in here into an error of its own.
                broken.append(error)
                raise

        try:
            try:
                size, digest = await self._blobs.put_stream(key, limited())
            except BrainError as error:
                raise broken[0] if broken else error from error
            media_type = self._detect_type(bytes(head[:_HEAD_BYTES]), filename=filename)
            yield Received(key=key, size_bytes=size, digest=digest, media_type=media_type)
        finally:
            await asyncio.shield(self._blobs.delete([key]))

    async def keep(self, change: Change, file: File, received: Received) -> None:
        """Note a file and put its bytes in their place; the last step of a transaction."""
        await change.add_file(file)
        await change.hold_content(file.tenant, file.digest)
        await self._blobs.rename(received.key, file_key(file.tenant, file.digest))


async def release(change: Change, blobs: Blobs, tenant: str, digest: str) -> int:
    """Remove bytes that no record refers to any more; return how many blobs went (0 or 1)."""
    if await change.hold_content(tenant, digest) > 0:
        return 0
    removed = await blobs.delete([file_key(tenant, digest)])
    await change.forget_content(tenant, digest)
    return removed
