"""Adapters that were trained elsewhere: an uploaded archive becomes a version like any other."""

import asyncio
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, InvalidInput, TooLarge
from services.chassis.ids import new_id
from services.finetuning.domain.adapters import AdapterSource, AdapterVersion, adapter_name
from services.finetuning.domain.jobs import check_suffix
from services.finetuning.domain.owners import Owner
from services.finetuning.ports.files import Files
from services.finetuning.ports.records import Ledger
from services.finetuning.usecases.publishing import CONFIG, WEIGHTS, Publish
from services.finetuning.usecases.settling import AwaitEngine

__all__ = ["ImportAdapter", "unpack"]

_log = structlog.get_logger()
_READ_BYTES: Final = 1 << 20
# An adapter archive holds two files and perhaps a card; one with thousands of entries is something else.
_MAX_ENTRIES: Final = 64


class ImportAdapter:
    """Publishes an uploaded adapter. Nothing is known of what it saw but its file: it belongs to whom its owner names.

    Args:
        ledger: Records.
        files: Uploaded files.
        publish: Makes versions.
        await_engine: Waits until they are served.
        base_model: Name of the base model.
        max_bytes: Largest archive, and largest file in it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        files: Files,
        publish: Publish,
        await_engine: AwaitEngine,
        base_model: str,
        max_bytes: int,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._publish = publish
        self._await_engine = await_engine
        self._base_model = base_model
        self._max_bytes = max_bytes

    async def __call__(
        self, caller: Caller, *, file_id: str, suffix: str, principals: tuple[str, ...]
    ) -> AdapterVersion:
        """Publish the adapter in an archive.

        Raises:
            InvalidInput: The archive is none, has not exactly the two files, or the engine refuses the adapter.
            NotFound: There is no such file.
            TooLarge: The archive or a file in it is too large.
        """
        check_suffix(suffix)
        owner = Owner.of(caller)
        name = adapter_name(base=self._base_model, tenant=caller.tenant, suffix=suffix, job_id=new_id("imported-"))
        with tempfile.TemporaryDirectory(prefix="import-") as scratch:
            folder = Path(scratch)
            archive = folder / "archive"
            size = 0
            with archive.open("wb") as kept:
                async for part in self._files.download(file_id):
                    size += len(part)
                    if size > self._max_bytes:
                        raise TooLarge(
                            f"file_id: the archive is larger than {self._max_bytes:,} bytes.", param="file_id"
                        )
                    await asyncio.to_thread(kept.write, part)
            await asyncio.to_thread(unpack, archive, folder / "adapter", max_bytes=self._max_bytes)
            upload = await self._publish.upload(caller.tenant, name, folder / "adapter")
        try:
            async with self._ledger.change() as change:
                version = await self._publish.add(
                    change,
                    name=name,
                    tenant=caller.tenant,
                    suffix=suffix,
                    owner=owner,
                    upload=upload,
                    principals=tuple(sorted({*principals, owner.principal})),
                    sources=[AdapterSource("file", file_id, 0, 0)],
                )
        except BrainError:
            await self._publish.discard(upload)
            raise
        if reason := await self._await_engine([name]):
            _log.warning("adapter_not_served_yet", adapter=name, reason=reason)
        return version


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Take the two files of an adapter out of a ZIP or tar archive; names in it choose no place on this machine.

    Raises:
        InvalidInput: It is no such archive, or a file is missing, twice there, or no plain file.
        TooLarge: A file in it is larger than `max_bytes`.
    """
    folder.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                entries = opened.infolist()
                _check_count(len(entries))
                for entry in entries:
                    _take(entry.filename, entry.is_dir(), lambda one=entry: opened.open(one), folder, max_bytes)  # type: ignore[misc]
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as packed:
                # Read entry by entry: a list of all members could be made to fill the memory.
                for count, member in enumerate(packed, 1):
                    _check_count(count)
                    if not (member.isfile() or member.isdir()):
                        raise InvalidInput(f"file_id: {member.name[:80]!r} is no plain file.", param="file_id")
                    _take(member.name, member.isdir(), lambda one=member: packed.extractfile(one), folder, max_bytes)  # type: ignore[misc]
        else:
            raise InvalidInput("file_id: the file is neither a ZIP nor a tar archive.", param="file_id")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise InvalidInput("file_id: the archive cannot be read.", param="file_id", private=repr(error)) from error
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).exists()]
    if missing:
        raise InvalidInput(f"file_id: the archive has no {' and no '.join(missing)}.", param="file_id")


def _check_count(count: int) -> None:
    if count > _MAX_ENTRIES:
        raise InvalidInput(f"file_id: the archive has more than {_MAX_ENTRIES} entries.", param="file_id")


def _take(name: str, is_folder: bool, opened: Callable[[], IO[bytes] | None], folder: Path, max_bytes: int) -> None:
    """Copy one entry if it is one of the two files; pickled weights beside them are refused, the rest is left."""
    plain = name.replace("\\", "/").rpartition("/")[2]
    if is_folder or plain not in {CONFIG, WEIGHTS}:
        if plain.lower().endswith((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so")):
            raise InvalidInput(f"file_id: {plain!r} is not allowed; only safetensors are read.", param="file_id")
        return
    if (folder / plain).exists():
        raise InvalidInput(f"file_id: the archive has two files {plain!r}.", param="file_id")
    source = opened()
    assert source is not None  # folders were left out
    with source, (folder / plain).open("xb") as target:
        size = 0
        # Counted while unpacking: what an archive says of its sizes is not to be believed.
        while piece := source.read(_READ_BYTES):
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"file_id: {plain} is larger than {max_bytes:,} bytes.", param="file_id")
            target.write(piece)
