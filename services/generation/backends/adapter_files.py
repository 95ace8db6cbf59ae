"""Adapters that lie in the room's folder, and the shapes of the model beside which they are served."""

import asyncio
import json
from pathlib import Path
from typing import Final

from services.chassis.errors import InvalidInput
from services.generation.backends.adapter_content import AdapterContent
from services.generation.backends.adapter_shelf import is_shelved
from services.generation.domain import AdapterFiles

__all__ = ["FolderInspector", "base_shapes"]

# A header beyond this belongs to no model: shapes of some ten thousand tensors take one megabyte.
MAX_HEADER_BYTES: Final = 64 << 20
_FORBIDDEN_SUFFIXES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so")


class FolderInspector:
    """Inspects directories that somebody put below one folder.

    Args:
        folder: Where adapters must lie, links followed.
        content: Looks into the files.
    """

    def __init__(self, folder: Path, *, content: AdapterContent) -> None:
        self._folder = folder
        self._content = content

    async def inspect(self, path: str) -> AdapterFiles:
        """Return what the directory holds."""
        return await asyncio.to_thread(self._inspect, path)

    def _inspect(self, path: str) -> AdapterFiles:
        folder = self._inside(path)
        for entry in folder.iterdir():
            if entry.suffix.lower() in _FORBIDDEN_SUFFIXES:
                raise _refused(f"{entry.name} is not allowed beside the weights; only safetensors are read")
            if not entry.resolve().is_relative_to(folder):
                raise _refused(f"{entry.name} leads out of the directory")
        return self._content.inspect(folder, param="path")

    def _inside(self, path: str) -> Path:
        root = self._folder.resolve()
        if not path or "\0" in path:
            raise _refused("give a directory in the adapter folder")
        folder = (root / path).resolve()
        if folder == root or not folder.is_relative_to(root):
            raise _refused("it must lie within the room's adapter folder")
        if is_shelved(folder.relative_to(root).parts[0]):
            raise _refused("it is where the room keeps adapters of its own; name the directory that was put here")
        if not folder.is_dir():
            raise _refused(f"there is no directory {path[:200]!r} in the adapter folder")
        return folder


def base_shapes(model: Path) -> dict[str, tuple[int, int]]:
    """Return the shapes of a model folder's matrices by layer name; empty where it has no safetensors."""
    shapes: dict[str, tuple[int, int]] = {}
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER_BYTES:
                raise InvalidInput(f"model: {path.name} is no safetensors file.", param="model")
            header = json.loads(file.read(size))
        for name, tensor in header.items():
            if name.endswith(".weight") and len(tensor.get("shape", ())) == 2:
                shapes[name.removesuffix(".weight")] = (tensor["shape"][0], tensor["shape"][1])
    return shapes


def _refused(reason: str) -> InvalidInput:
    return InvalidInput(f"path: {reason}.", param="path")
