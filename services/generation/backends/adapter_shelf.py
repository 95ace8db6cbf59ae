"""Adapters' files in a folder of this machine: one directory for each content, its path carries the digests.

A directory appears whole or not at all, is checked before it gets its name, and is never written to again.
"""

import asyncio
import re
import shutil
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from services.chassis.blobs import BlobStore
from services.chassis.errors import BrainError, Conflict, NotFound, TooLarge, Unavailable
from services.generation.backends.adapter_content import CONFIG, MAX_CONFIG_BYTES, WEIGHTS, AdapterContent
from services.generation.domain import AdapterFiles, AdapterSource

__all__ = ["FolderShelf", "is_shelved"]

_log = structlog.get_logger()
_SHELVED: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{64}")
_UNFINISHED: Final = ".unfinished-"
# The engine may still make a step that was under way when the last taker left; nothing is removed before that.
_QUIET_S: Final = 30.0


def is_shelved(name: str) -> bool:
    """Return whether a directory of this name in the adapter folder is the shelf's own, finished or not."""
    return bool(_SHELVED.fullmatch(name)) or name.startswith(_UNFINISHED)


class FolderShelf:
    """Back end of the shelf port.

    Args:
        folder: Where the directories lie.
        blobs: Where files come from.
        content: Looks into them.
        max_kept: Directories that are kept; those that are taken stay beyond it.
        quiet_s: Seconds after its last use before a directory may be removed.
        now: A clock in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        blobs: BlobStore,
        content: AdapterContent,
        max_kept: int,
        quiet_s: float = _QUIET_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._content = content
        self._max_kept = max_kept
        self._quiet_s = quiet_s
        self._now = now
        # What was checked since the start, least recently used first, with the time of its last use.
        self._checked: OrderedDict[str, AdapterFiles] = OrderedDict()
        self._used_at: dict[str, float] = {}
        self._takers: Counter[str] = Counter()
        self._fetching: dict[str, asyncio.Lock] = {}

    def open(self) -> None:
        """Find what is there from before a restart, and clear away what was never finished. This blocks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found = [entry for entry in self._folder.iterdir() if is_shelved(entry.name)]
        for entry in sorted(found, key=lambda it: it.stat().st_mtime):
            if entry.name.startswith(_UNFINISHED):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                self._used_at[entry.name] = self._now() - self._quiet_s

    async def take(self, source: AdapterSource) -> AdapterFiles:
        """Return the files of an adapter."""
        name = source.content
        # From here on nobody removes the directory.
        self._takers[name] += 1
        try:
            files = self._checked.get(name)
            if files is None:
                async with self._fetching.setdefault(name, asyncio.Lock()):
                    files = self._checked.get(name) or await self._brought(source)
        except BaseException:
            self.give_back(source)
            raise
        self._touch(name, files)
        return files

    def give_back(self, source: AdapterSource) -> None:
        """Note that one taker is done."""
        name = source.content
        self._takers[name] -= 1
        if self._takers[name] <= 0:
            del self._takers[name]
        if name in self._checked:
            self._touch(name, self._checked[name])

    async def remove(self, source: AdapterSource) -> None:
        """Remove a directory that nobody has taken."""
        await self._remove(source.content)

    async def look(self, config_key: str, weights_key: str) -> AdapterFiles:
        """Fetch, inspect and forget."""
        async with self._draft() as draft:
            await self._fetch(draft, config_key, weights_key)
            return await asyncio.to_thread(self._content.inspect, draft, param="adapter")

    async def _brought(self, source: AdapterSource) -> AdapterFiles:
        """Return the files after they were checked, fetched where they were not here."""
        name = source.content
        target = self._folder / name
        if name in self._used_at:
            files = await self._kept(source, target)
            if files is not None:
                return files
        async with self._draft() as draft:
            if source.path:
                await asyncio.to_thread(_copy, Path(source.path), draft)
            else:
                await self._fetch(draft, source.config_key, source.weights_key)
            found = await asyncio.to_thread(self._content.inspect, draft, param="adapter")
            _check(found, source)
            await asyncio.to_thread(draft.rename, target)
        files = AdapterFiles(str(target), found.digest, found.config_digest, found.rank, found.size_bytes)
        self._touch(name, files)
        await self._trim()
        return files

    async def _kept(self, source: AdapterSource, target: Path) -> AdapterFiles | None:
        """Return what is here from before a restart; None when it is not what its name says any more."""
        try:
            files = await asyncio.to_thread(self._content.inspect, target, param="adapter")
            _check(files, source)
        except (BrainError, OSError) as error:
            # Whether they can be served is decided on fresh ones.
            _log.warning("adapter_files_changed", content=source.content, reason=str(error))
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            self._used_at.pop(source.content, None)
            return None
        return files

    async def _fetch(self, draft: Path, config_key: str, weights_key: str) -> None:
        await self._fetch_one(config_key, draft / CONFIG, MAX_CONFIG_BYTES)
        await self._fetch_one(weights_key, draft / WEIGHTS, self._content.limits.max_bytes)

    async def _fetch_one(self, key: str, path: Path, max_bytes: int) -> None:
        try:
            size = await self._blobs.size(key)
            if size > max_bytes:
                raise TooLarge(
                    f"adapter: {path.name} has {size} bytes; at most {max_bytes} are allowed.", param="adapter"
                )
            await self._blobs.save(key, path)
        except NotFound as error:
            raise NotFound(f"adapter: there is no blob with its {path.name}.", param="adapter", private=key) from error

    @asynccontextmanager
    async def _draft(self) -> AsyncIterator[Path]:
        """Yield a fresh directory, which is gone at the end unless it was renamed.

        Raises:
            Unavailable: The disk is full or away.
        """
        try:
            draft = await asyncio.to_thread(self._make_draft)
            try:
                yield draft
            finally:
                await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        except OSError as error:
            raise Unavailable("The adapter's files cannot be kept.", private=repr(error), retry_after_s=5.0) from error

    def _make_draft(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))

    def _touch(self, name: str, files: AdapterFiles) -> None:
        self._checked[name] = files
        self._checked.move_to_end(name)
        self._used_at.pop(name, None)
        self._used_at[name] = self._now()

    async def _trim(self) -> None:
        """Remove what was not used for the longest time while there is more than is to be kept."""
        for name in [*self._used_at]:
            if len(self._used_at) <= self._max_kept:
                return
            if self._now() - self._used_at[name] >= self._quiet_s:
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        if name in self._takers or name not in self._used_at:
            return
        # Whoever wants it meanwhile waits for the lock, and fetches it anew.
        async with self._fetching.setdefault(name, asyncio.Lock()):
            if name in self._takers or name not in self._used_at:
                return
            self._checked.pop(name, None)
            del self._used_at[name]
            await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)


def _copy(origin: Path, draft: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        try:
            shutil.copyfile(origin / name, draft / name)
        except FileNotFoundError as error:
            raise NotFound(f"path: there is no {name} in the directory.", param="path") from error


def _check(found: AdapterFiles, source: AdapterSource) -> None:
    """Refuse files that are not the ones that were announced.

    Raises:
        Conflict: Their digests differ.
    """
    for kind, is_digest, should in (
        ("weights_digest", found.digest, source.weights_digest),
        ("config_digest", found.config_digest, source.config_digest),
    ):
        if is_digest != should:
            raise Conflict(f"{kind}: the files have {is_digest}, announced was {should}.", param=kind)
