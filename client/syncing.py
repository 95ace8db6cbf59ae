"""A folder and a collection made equal: new, changed and vanished files by content hash."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client.gateway import Gateway

__all__ = ["SyncPlan", "carry_out", "plan_sync"]

FINAL_STATES: Final = frozenset({"indexed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What has to be done.

    Attributes:
        new: Keys (paths within the folder) that the collection does not have.
        changed: Keys whose bytes differ from the newest version's.
        vanished: Document ids by key whose file is gone.
        unchanged: How many files are as they were.
    """

    new: tuple[str, ...]
    changed: tuple[str, ...]
    vanished: Mapping[str, str]
    unchanged: int

    @property
    def uploads(self) -> tuple[str, ...]:
        """Keys to upload."""
        return (*self.new, *self.changed)


def plan_sync(folder: Path, manifest: Iterable[Mapping[str, Any]]) -> SyncPlan:
    """Compare a folder with what a collection holds. Hidden files and folders are passed over."""
    known = {str(entry["key"]): entry for entry in manifest}
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    new = tuple(key for key in files if key not in known)
    changed = tuple(key for key, path in files.items() if key in known and known[key]["digest"] != _digest(path))
    vanished = {key: str(entry["id"]) for key, entry in known.items() if key not in files}
    return SyncPlan(new=new, changed=changed, vanished=vanished, unchanged=len(files) - len(new) - len(changed))


def carry_out(
    gateway: Gateway,
    collection: str,
    folder: Path,
    plan: SyncPlan,
    *,
    keep_vanished: bool,
    access_of: Callable[[str], list[str] | None],
    attributes_of: Callable[[str], dict[str, Any] | None],
    on_step: Callable[[str], None],
) -> None:
    """Upload what is new or changed and delete what vanished; `on_step` is told each key when it is done."""
    for key in plan.uploads:
        access = access_of(key) if key in plan.new else None
        attributes = attributes_of(key) if key in plan.new else None
        gateway.upload(collection, folder / key, key=key, access=access, attributes=attributes)
        on_step(key)
    if keep_vanished:
        return
    for key, document_id in plan.vanished.items():
        gateway.delete(document_id)
        on_step(key)


def unfinished(manifest: Iterable[Mapping[str, Any]]) -> int:
    """Return how many documents have not reached a final state."""
    return sum(entry["state"] not in FINAL_STATES for entry in manifest)


def failures(manifest: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the reason of every document that failed, by key."""
    return {str(entry["key"]): str(entry["reason"]) for entry in manifest if entry["state"] == "failed"}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
