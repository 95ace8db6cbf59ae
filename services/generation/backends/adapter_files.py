"""Looks into an adapter directory (PEFT layout) before the engine does: its content is not to be trusted.

A bad adapter must be refused here: weights of a wrong shape would bring down the engine's process at the first request,
and pickled weights could run code.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, deserialize

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.domain import AdapterFiles

__all__ = ["FolderInspector", "base_shapes"]

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
MAX_CONFIG_BYTES: Final = 1 << 20
# A header beyond this belongs to no model: shapes of some ten thousand tensors take one megabyte.
MAX_HEADER_BYTES: Final = 64 << 20
_FORBIDDEN_SUFFIXES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so")
_TENSOR: Final = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")
# What changes an adapter's meaning in ways that the engine does not follow, with the only value that is served.
_PLAIN: Final[Mapping[str, tuple[Any, ...]]] = {
    "bias": (None, "none"),
    "use_dora": (None, False),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (None, False),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
}


class FolderInspector:
    """Inspects directories below one folder.

    Args:
        folder: Where adapters must lie, links followed.
        modules: Names of the linear layers that may be adapted (last part, as `q_proj`).
        shapes: Shape (out, in) of the base model's layers by full name; empty where they are not known.
        max_rank: Largest rank.
        max_bytes: Largest weights file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        modules: frozenset[str],
        shapes: Mapping[str, tuple[int, int]],
        max_rank: int,
        max_bytes: int,
    ) -> None:
        self._folder = folder
        self._modules = modules
        self._shapes = shapes
        self._max_rank = max_rank
        self._max_bytes = max_bytes

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
        rank = self._rank(_config(folder / CONFIG))
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise _refused(f"there is no {WEIGHTS}")
        size = weights.stat().st_size
        if size > self._max_bytes:
            raise TooLarge(f"path: {WEIGHTS} has {size} bytes; at most {self._max_bytes} are allowed.", param="path")
        data = weights.read_bytes()
        try:
            tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise _refused(f"{WEIGHTS} cannot be read as safetensors ({error})") from error
        self._check_tensors(tensors, rank)
        return AdapterFiles(path=str(folder), digest=hashlib.sha256(data).hexdigest(), rank=rank)

    def _inside(self, path: str) -> Path:
        root = self._folder.resolve()
        if not path or "\0" in path:
            raise InvalidInput("path: give a directory in the adapter folder.", param="path")
        folder = (root / path).resolve()
        if folder == root or not folder.is_relative_to(root):
            raise InvalidInput("path: it must lie within the room's adapter folder.", param="path")
        if not folder.is_dir():
            raise InvalidInput(f"path: there is no directory {path[:200]!r} in the adapter folder.", param="path")
        return folder

    def _rank(self, config: Mapping[str, Any]) -> int:
        if config.get("peft_type") != "LORA":
            raise _refused(f"{CONFIG} says peft_type {config.get('peft_type')!r}; only LORA is served")
        for key, allowed in _PLAIN.items():
            if config.get(key) not in allowed:
                raise _refused(f"{CONFIG} sets {key}, which is not served")
        rank = config.get("r")
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= self._max_rank:
            raise _refused(f"{CONFIG} says rank {rank!r}; allowed are 1 to {self._max_rank}")
        alpha = config.get("lora_alpha")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= 1e6:
            raise _refused(f"{CONFIG} says lora_alpha {alpha!r}; it must be a number above 0")
        targets = config.get("target_modules")
        if isinstance(targets, list):
            unknown = sorted({str(name).rsplit(".", 1)[-1] for name in targets} - self._modules)
            if unknown:
                raise _refused(f"target_modules {', '.join(unknown)} are not layers that can be adapted")
        elif not isinstance(targets, str):
            raise _refused(f"{CONFIG} names no target_modules")
        return rank

    def _check_tensors(self, tensors: Mapping[str, Mapping[str, Any]], rank: int) -> None:
        halves: dict[str, dict[str, list[int]]] = {}
        for name, tensor in tensors.items():
            module, half = self._placed(name)
            if len(tensor["shape"]) != 2:
                raise _refused(f"tensor {name[:120]!r} is no matrix")
            if not _finite(tensor["dtype"], tensor["data"]):
                raise _refused(f"tensor {name[:120]!r} holds values that are not finite numbers")
            halves.setdefault(module, {})[half] = tensor["shape"]
        if not halves:
            raise _refused(f"{WEIGHTS} holds no tensors")
        for module, shapes in halves.items():
            if set(shapes) != {"A", "B"}:
                raise _refused(f"layer {module!r} has only one of lora_A and lora_B")
            if shapes["A"][0] != rank or shapes["B"][1] != rank:
                raise _refused(f"layer {module!r} has another rank than {rank}")
            expected = self._shapes.get(module)
            if expected is not None and (shapes["B"][0], shapes["A"][1]) != expected:
                raise _refused(f"layer {module!r} does not fit the base model's {expected[0]} × {expected[1]}")

    def _placed(self, name: str) -> tuple[str, str]:
        """Return the layer that a tensor changes, and which half of the change it is."""
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise _refused(f"tensor {name[:120]!r} belongs to no LoRA layer")
        module = match["module"]
        if module.rsplit(".", 1)[-1] not in self._modules:
            raise _refused(f"layer {module[:120]!r} cannot be adapted")
        if self._shapes and module not in self._shapes:
            raise _refused(f"the base model has no layer {module[:120]!r}")
        return module, match["half"]


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


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise _refused(f"there is no {CONFIG}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise TooLarge(f"path: {CONFIG} is larger than {MAX_CONFIG_BYTES} bytes.", param="path")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _refused(f"{CONFIG} is not JSON") from error
    if not isinstance(config, dict):
        raise _refused(f"{CONFIG} is no JSON object")
    return config


def _finite(dtype: str, data: bytes | bytearray) -> bool:
    match dtype:
        case "F32":
            return bool(np.isfinite(np.frombuffer(data, "<f4")).all())
        case "F16":
            return bool(np.isfinite(np.frombuffer(data, "<f2")).all())
        case "BF16":
            # NumPy has no bfloat16: not finite is whatever has all eight exponent bits set.
            return bool(((np.frombuffer(data, "<u2") & 0x7F80) != 0x7F80).all())
        case _:
            raise _refused(f"{WEIGHTS} holds numbers of type {dtype}; allowed are F32, F16 and BF16")


def _refused(reason: str) -> InvalidInput:
    return InvalidInput(f"path: {reason}.", param="path")
