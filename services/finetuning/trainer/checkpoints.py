"""Checkpoints that are whole or not there: written under another name, forced to the disk, then renamed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.finetuning.domain.training import checkpoint_step

__all__ = ["ADAPTER", "clear_unfinished", "publish"]

# Where in a checkpoint, and in nothing else's way, the adapter lies that can be served.
ADAPTER: Final = "adapter"
_KEPT: Final = 3
_UNFINISHED: Final = ".unfinished-"


def publish(target: Path, fill: Callable[[Path], None], *, keep: int = _KEPT) -> Path:
    """Fill a folder and put it at `target`, whole or not at all; of its siblings `step-N` only the newest are kept.

    Args:
        target: Where the folder shall be; what is there is replaced.
        fill: Writes the files into the folder that it is given.
        keep: How many checkpoints to keep beside each other.
    """
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{_UNFINISHED}{target.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fill(folder)
    for path in [*folder.rglob("*"), folder]:
        _force(path)
    if target.exists():
        # Of a training that went on from before it.
        old = parent / f"{_UNFINISHED}old-{target.name}"
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old)
    else:
        folder.rename(target)
    _force(parent)
    steps = sorted((step, path) for path in parent.iterdir() if (step := checkpoint_step(path)) is not None)
    for _, path in steps[:-keep]:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        gone = path.rename(parent / f"{_UNFINISHED}old-{path.name}")
        shutil.rmtree(gone)
    return target


def clear_unfinished(folder: Path) -> None:
    """Remove what a process that was killed left half done."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _force(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
