"""The archive as a whole: a folder with a part of each room, the blobs, and a manifest that is written last."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from services.chassis.errors import Conflict, InvalidInput
from services.chassis.moving.blobs import BlobFiles
from services.chassis.moving.part import FORMAT, Tell

__all__ = ["Archive", "Manifest"]

_MANIFEST: Final = "manifest.json"
_BLOBS: Final = "blobs"
_SECRETS: Final = "secrets"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds.

    Attributes:
        format: Of the whole; an archive of another number is refused.
        version: Release of the product that wrote it.
        began: When the export began, seconds since 1970.
        ended: When it ended.
        rooms: What each room reported: the version of its tables, and the rows of each.
        blobs: How many there are, and their bytes.
        secrets: What tells the secret files that keys are hashed with, by name; never the secrets.
        files: SHA-256 of every file, by its path in the archive; blobs are named by theirs.
    """

    format: int
    version: str
    began: float
    ended: float
    rooms: dict[str, Any]
    blobs: dict[str, int]
    secrets: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)


class Archive:
    """A folder that is, or becomes, an archive.

    Args:
        folder: The folder, as an absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Return a new one; only this user may read it.

        Raises:
            Conflict: Something is in the folder.
            InvalidInput: It cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = next(folder.iterdir(), None)
            if held is None:
                folder.chmod(0o700)
        except OSError as error:
            raise InvalidInput(
                f"folder: {str(folder)!r} cannot be written to ({error.strerror}).", param="folder"
            ) from error
        if held is not None:
            raise Conflict(f"folder: {str(folder)!r} is not empty; export into a new one.", param="folder")
        return cls(folder.resolve())

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Return the one that is, or should be, in a folder."""
        return cls(folder.resolve())

    @property
    def blobs(self) -> BlobFiles:
        """The blobs."""
        return BlobFiles(self.folder / _BLOBS)

    @property
    def secrets(self) -> Path:
        """Where secret files lie, where they were asked for."""
        return self.folder / _SECRETS

    def complete(self, manifest: Manifest) -> None:
        """Write the manifest: without it nothing is imported."""
        files = {str(path.relative_to(self.folder)): _digest(path) for path in self._files()}
        whole = dataclasses.replace(manifest, files=files)
        draft = self.folder / f"{_MANIFEST}.new"
        draft.write_text(json.dumps(dataclasses.asdict(whole), indent=1))
        # A backup that says that it is whole is on the disk.
        os.sync()
        draft.replace(self.folder / _MANIFEST)

    def manifest(self) -> Manifest:
        """Return what the archive says of itself.

        Raises:
            InvalidInput: It is none, is unfinished, or of a format that this release does not read.
        """
        path = self.folder / _MANIFEST
        if not path.is_file():
            raise InvalidInput(
                f"folder: {str(self.folder)!r} holds no {_MANIFEST}: it is no archive, or one whose export did not end.",
                param="folder",
            )
        try:
            said = json.loads(path.read_text())
            number = said["format"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{path} cannot be read.", private=repr(error)) from error
        if number != FORMAT:
            raise InvalidInput(
                f"{path}: format {number!r} is not offered; this release reads {FORMAT}. Import it with the release that "
                f"wrote it ({said.get('version', 'unknown')})."
            )
        try:
            return Manifest(**said)
        except TypeError as error:
            raise InvalidInput(f"{path} cannot be read.", private=repr(error)) from error

    def verify(self, tell: Tell) -> Manifest:
        """Return the manifest when every file is as it was written.

        Raises:
            InvalidInput: The archive is none, or a file is missing or damaged.
        """
        manifest = self.manifest()
        for name, digest in manifest.files.items():
            path = self.folder / name
            # A name that leads out of the archive is none of its files.
            if not path.resolve().is_relative_to(self.folder) or not path.is_file():
                raise InvalidInput(f"{path} is missing; the archive cannot be imported.")
            if _digest(path) != digest:
                raise InvalidInput(f"{path} is damaged: its SHA-256 is not that of the manifest.")
        self.blobs.verify(tell)
        return manifest

    def _files(self) -> Iterator[Path]:
        """Yield every file but the contents of blobs, whose names are their digests, and the manifest."""
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder)
            is_content = place.parts[0] == _BLOBS and len(place.parts) > 2
            if path.is_file() and not is_content and place.name not in {_MANIFEST, f"{_MANIFEST}.new"}:
                yield path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
