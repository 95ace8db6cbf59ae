"""A folder and a collection made equal: new, changed and vanished files by content hash."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client.errors import NotFoundError, RefusedError, UsageError
from client.gateway import Gateway

__all__ = ["SyncPlan", "carry_out", "plan_sync"]

_SECOND_TRY: Final = frozenset({"failed", "cancelled"})
FINAL_STATES: Final = frozenset({"indexed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What has to be done.

    Attributes:
        new: Keys (paths within the folder) that the collection does not have.
        changed: Keys whose bytes differ from the newest version's.
        vanished: Document ids by key whose file is gone.
        unchanged: How many files are as they were.
        again: Those of them that failed or were cancelled: brought once more, since it may have been no fault of theirs.
    """

    new: tuple[str, ...]
    changed: tuple[str, ...]
    vanished: Mapping[str, str]
    unchanged: int
    again: tuple[str, ...] = ()

    @property
    def uploads(self) -> tuple[str, ...]:
        """Keys to upload."""
        return (*self.new, *self.changed, *self.again)


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
    same = [key for key in files if key in known and key not in changed]
    again = tuple(key for key in same if known[key]["state"] in _SECOND_TRY)
    return SyncPlan(new=new, changed=changed, vanished=vanished, unchanged=len(same), again=again)


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
    on_refused: Callable[[str, str], None] | None = None,
) -> None:
    """Upload what is new or changed and delete what vanished; `on_step` is told each key when it is done.

    `on_refused` is told key and reason of what the gateway does not take, and the others go on; without it that raises.
    """
    for key in plan.uploads:
        access = access_of(key) if key in plan.new else None
        attributes = attributes_of(key) if key in plan.new else None
        with _noted(key, on_refused):
            gateway.upload(collection, folder / key, key=key, access=access, attributes=attributes)
        on_step(key)
    if keep_vanished:
        return
    for key, document_id in plan.vanished.items():
        # Who finds it gone already has what was wanted.
        with _noted(key, on_refused), suppress(NotFoundError):
            gateway.delete(document_id)
        on_step(key)


@contextmanager
def _noted(key: str, on_refused: Callable[[str, str], None] | None) -> Iterator[None]:
    try:
        yield
    except (UsageError, RefusedError, OSError) as error:
        if on_refused is None:
            raise
        on_refused(key, str(error))


def unfinished(manifest: Iterable[Mapping[str, Any]]) -> int:
    """Return how many documents have not reached a final state."""
    return sum(entry["state"] not in FINAL_STATES for entry in manifest)


def failures(manifest: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the reason of every document that failed, by key."""
    return {str(entry["key"]): str(entry["reason"]) for entry in manifest if entry["state"] == "failed"}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
