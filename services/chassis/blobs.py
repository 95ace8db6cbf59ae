"""Bytes by key: a local folder, memory (for tests), or an S3-compatible bucket, through obstore."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore, S3Store

from services.chassis.certificates import CertificateFiles
from services.chassis.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

__all__ = ["BlobEntry", "BlobStore", "open_blobs"]

# Bytes handed on at a time.
_PART_BYTES: Final = 1024 * 1024
# Bytes that are sent to S3 at a time. One part after the other: large ones, or the way there and back would cost more than they.
_SENT_BYTES: Final = 8 * 1024 * 1024
# Keys that are asked after at a time before they are removed together.
_ASKED_AT_ONCE: Final = 16
# Most keys that S3 removes in one request.
_REMOVED_AT_ONCE: Final = 1000

# A store that does not take the connection is away; a good one takes milliseconds.
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
# How long nothing may come: the longest silence of a store that is well is that of a copy of some GB.
_SILENCE_TIMEOUT: Final = timedelta(seconds=30)
# A part or a file as a whole; what stalls is noticed by its silence.
_REQUEST_TIMEOUT: Final = timedelta(minutes=15)
# Retries of one request (5xx, lost connections, 503 SlowDown) end after this. With the times above a call ends within a minute;
# obstore's own would take three.
_RETRY_TIMEOUT: Final = timedelta(seconds=15)
_MAX_RETRIES: Final = 4
_MAX_BACKOFF: Final = timedelta(seconds=2)
# How long whoever cancelled an upload is kept while the store takes it back; it goes on without.
_TAKE_BACK_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """Something that is kept: `mark` is another one when other bytes were put under the same key."""

    key: str
    size: int
    mark: str


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

        Nothing is left behind when `parts` raises or the call is cancelled.

        Raises:
            Unavailable: The store is away or full.
        """
        digest = hashlib.sha256()
        size = 0
        left = asyncio.Event()

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            try:
                async for part in _until(left, parts):
                    digest.update(part)
                    size += len(part)
                    yield part
            except Exception:  # the sender's, whatever it is; raised again
                # A store may keep a part that is on its way while the others are taken back: with no parts at a time
                # (below) the next piece of the stream, an empty one, is taken when none is on its way any more.
                yield b""
                raise

        put = obstore.put_async(self._store, key, measured(), chunk_size=_SENT_BYTES, max_concurrency=0)
        upload = asyncio.ensure_future(self._guard(put))
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            # What was sent is taken back when the stream breaks, and not when nobody waits for its end any more.
            left.set()
            upload.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            await asyncio.wait({upload}, timeout=_TAKE_BACK_TIMEOUT_S)
            raise
        finally:
            left.set()
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
        wanted = list(dict.fromkeys(keys))
        there: list[str] = []
        for first in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[first : first + _ASKED_AT_ONCE]
            found = await asyncio.gather(*map(self.exists, some))
            there += [key for key, is_there in zip(some, found, strict=True) if is_there]
        for first in range(0, len(there), _REMOVED_AT_ONCE):
            await self._remove(there[first : first + _REMOVED_AT_ONCE])
        return len(there)

    async def rename(self, source: str, target: str) -> None:
        """Move what is kept under `source` to `target`, replacing what was there."""
        await self._guard(obstore.rename_async(self._store, source, target))
        await self._flush(target)

    async def entries(self) -> list[BlobEntry]:
        """Return everything that is kept, sorted by key.

        Raises:
            Unavailable: The store is away.
        """
        found = await self._guard(obstore.list(self._store).collect_async())
        listed = (
            BlobEntry(str(one["path"]), int(one["size"]), one["e_tag"] or str(one["last_modified"])) for one in found
        )
        return sorted(listed, key=lambda entry: entry.key)

    async def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix` (whole path segments), sorted.

        Raises:
            Unavailable: The store is away.
        """
        entries = await self._guard(obstore.list(self._store, prefix).collect_async())
        return sorted(str(entry["path"]) for entry in entries)

    async def _remove(self, keys: Sequence[str]) -> None:
        """Remove all of them, in one request where the store can."""
        try:
            await self._guard(obstore.delete_async(self._store, keys))
        except NotFound:
            # Somebody else removed one meanwhile; the others are still to go.
            for key in keys:
                with suppress(NotFound):
                    await self._guard(obstore.delete_async(self._store, key))

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


class _SenderLeftError(Exception):
    """Breaks a stream whose upload was cancelled."""


async def _until(left: asyncio.Event, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `parts` until the event; then raise, also while the next part is waited for."""
    leaving = asyncio.ensure_future(left.wait())
    iterator = aiter(parts)
    try:
        while True:
            coming: asyncio.Future[bytes] = asyncio.ensure_future(anext(iterator))
            either: set[asyncio.Future[Any]] = {coming, leaving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
                raise _SenderLeftError
            try:
                part = await coming
            except StopAsyncIteration:
                return
            yield part
    finally:
        leaving.cancel()


def open_blobs(url: str) -> BlobStore:
    """Return the store that `url` names: `file:///folder`, `memory://` or `s3://bucket/prefix`.

    S3's options stand in the query: `endpoint` (of a store that is not Amazon's, `https://…`), `region`, `ca_file` (authorities,
    PEM, that are trusted beside those of the web; read once) and `plain_http=true`, without which an endpoint must speak TLS. Keys come from where Amazon's own clients take them
    (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a web identity's token file, the machine's role), never from the URL.

    Raises:
        InvalidInput: The scheme or an option is not offered.
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
            return BlobStore(_s3(url))
        case _:
            raise InvalidInput(f"blobs_url: {scheme!r} is not offered; use file:///FOLDER, memory:// or s3://BUCKET.")


def _s3(url: str) -> S3Store:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # Not shown: it may be a secret.
    if "@" in parts.netloc or not parts.netloc:
        raise InvalidInput("blobs_url: use s3://BUCKET/PREFIX; keys are taken from the environment, not from the URL.")
    unknown = sorted(options.keys() - {"endpoint", "region", "plain_http", "ca_file"})
    if unknown:
        raise InvalidInput(f"blobs_url: {unknown[0]!r} is not offered; use endpoint, region, ca_file and plain_http.")
    endpoint, plain_http = options.get("endpoint", ""), options.get("plain_http", "false")
    if plain_http not in {"true", "false"}:
        raise InvalidInput(f"blobs_url: plain_http={plain_http!r} is not offered; use true or false.")
    if endpoint and urlsplit(endpoint).scheme not in ({"http", "https"} if plain_http == "true" else {"https"}):
        raise InvalidInput(f"blobs_url: endpoint {endpoint!r} is no https:// address; plain_http=true allows http://.")
    config: S3Config = {"virtual_hosted_style_request": False}
    if endpoint:
        config["endpoint"] = endpoint
    if "region" in options:
        config["region"] = options["region"]
    client: ClientConfig = {
        "allow_http": plain_http == "true",
        "connect_timeout": _CONNECT_TIMEOUT,
        "read_timeout": _SILENCE_TIMEOUT,
        "timeout": _REQUEST_TIMEOUT,
    }
    if "ca_file" in options:
        client["root_certificate"] = _authorities(options["ca_file"])
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=config,
        client_options=client,
        retry_config={
            "max_retries": _MAX_RETRIES,
            "retry_timeout": _RETRY_TIMEOUT,
            "backoff": {"max_backoff": _MAX_BACKOFF},
        },
    )


def _authorities(path: str) -> bytes:
    try:
        files = CertificateFiles("blobs", authorities=Path(path), certificate=None, key=None)
    except InvalidInput as error:
        raise InvalidInput(f"blobs_url: ca_file {path!r} is no file of certificates (PEM).") from error
    return files.current().authorities or b""
