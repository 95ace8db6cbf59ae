"""Looks into an adapter's two files (PEFT layout) before the engine does: their content is not to be trusted.

A bad adapter must be refused here: weights of a wrong shape would bring down the engine's process at the first request,
values that are no numbers would spoil what is computed beside them.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.domain import AdapterFiles, AdapterLimits

__all__ = ["CONFIG", "MAX_CONFIG_BYTES", "WEIGHTS", "AdapterContent", "largest_values"]

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
MAX_CONFIG_BYTES: Final = 1 << 20
# Ten thousand tensors take one megabyte of header, and no adapter has forty thousand.
_MAX_HEADER_BYTES: Final = 4 << 20
_READ_BYTES: Final = 1 << 22
_TENSOR: Final = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<half>[AB])\.weight", re.ASCII)
# Largest number of the narrowest format that engines compute in (float16): beyond it weights become infinite there.
_LARGEST: Final = 65_504.0
_MAX_ALPHA: Final = 1e6
# Bytes of a number, by the format's name.
_WIDTH: Final = {"F32": 4, "F16": 2, "BF16": 2}
# What changes an adapter's meaning in ways that the engine does not follow, with the only values that are served.
_PLAIN: Final[Mapping[str, tuple[Any, ...]]] = {
    "bias": (None, "none"),
    "use_dora": (None, False),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "use_bdlora": (None, False, {}),
    "use_rslora": (None, False, True),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    # Others (PiSSA, OLoRA, CorDA, LoftQ) change the base model's own weights.
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class AdapterContent:
    """Inspects directories with the two files of an adapter.

    Args:
        limits: What the engine can take.
        shapes: Shape (out, in) of the base model's layers by full name; empty where they are not known.
    """

    def __init__(self, limits: AdapterLimits, *, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.limits = limits
        self._shapes = shapes

    def inspect(self, folder: Path, *, param: str) -> AdapterFiles:
        """Return what a directory holds. This blocks: it reads both files.

        Raises:
            InvalidInput: They are missing, or nothing the engine can serve safely; errors name `param`.
            TooLarge: They exceed the limit.
        """
        try:
            return self._inspect(folder)
        except _Bad as bad:
            kind = TooLarge if bad.too_large else InvalidInput
            raise kind(f"{param}: {bad.reason}.", param=param) from bad

    def _inspect(self, folder: Path) -> AdapterFiles:
        config = _read_config(folder / CONFIG)
        rank = self._rank(_parsed(config))
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise _Bad(f"there is no {WEIGHTS}")
        size = weights.stat().st_size
        if size > self.limits.max_bytes:
            raise _Bad(f"{WEIGHTS} has {size} bytes; at most {self.limits.max_bytes} are allowed", too_large=True)
        with weights.open("rb") as file:
            digest = hashlib.sha256()
            tensors = _header(weights, file, size, digest)
            self._check_layers(tensors, rank)
            _check_values(file, tensors, digest)
        return AdapterFiles(
            path=str(folder),
            digest=digest.hexdigest(),
            config_digest=hashlib.sha256(config).hexdigest(),
            rank=rank,
            size_bytes=size + len(config),
        )

    def _rank(self, config: Mapping[str, Any]) -> int:
        if config.get("peft_type") != "LORA":
            raise _Bad(f"{CONFIG} says peft_type {_shown(config.get('peft_type'))}; only LORA is served")
        for key, allowed in _PLAIN.items():
            if config.get(key) not in allowed:
                raise _Bad(f"{CONFIG} sets {key}, which is not served")
        rank = config.get("r")
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= self.limits.max_rank:
            raise _Bad(f"{CONFIG} says rank {_shown(rank)}; allowed are 1 to {self.limits.max_rank}")
        alpha = config.get("lora_alpha")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= _MAX_ALPHA:
            raise _Bad(f"{CONFIG} says lora_alpha {_shown(alpha)}; it must be a number above 0, at most {_MAX_ALPHA:g}")
        targets = config.get("target_modules")
        # A pattern is refused with everything else that is no list: nobody should have to run it.
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise _Bad(f"{CONFIG} has target_modules {_shown(targets)}; give a list of layer names")
        unknown = sorted({name.rsplit(".", 1)[-1] for name in targets} - self.limits.modules)
        if unknown or not targets:
            raise _Bad(f"target_modules {_shown(unknown)} are not layers that can be adapted")
        return rank

    def _check_layers(self, tensors: Sequence[_Tensor], rank: int) -> None:
        halves: dict[str, dict[str, tuple[int, ...]]] = {}
        for tensor in tensors:
            module, half = self._placed(tensor.name)
            if len(tensor.shape) != 2:
                raise _Bad(f"tensor {_shown(tensor.name)} is no matrix")
            if tensor.dtype not in _WIDTH:
                raise _Bad(f"{WEIGHTS} holds numbers of type {_shown(tensor.dtype)}; allowed are F32, F16 and BF16")
            halves.setdefault(module, {})[half] = tensor.shape
        if not halves:
            raise _Bad(f"{WEIGHTS} holds no tensors")
        for module, shapes in halves.items():
            if set(shapes) != {"A", "B"}:
                raise _Bad(f"layer {_shown(module)} has only one of lora_A and lora_B")
            if shapes["A"][0] != rank or shapes["B"][1] != rank:
                raise _Bad(f"layer {_shown(module)} has another rank than {rank}")
            expected = self._shapes.get(module)
            if expected is not None and (shapes["B"][0], shapes["A"][1]) != expected:
                raise _Bad(f"layer {_shown(module)} does not fit the base model's {expected[0]} × {expected[1]}")

    def _placed(self, name: str) -> tuple[str, str]:
        """Return the layer that a tensor changes, and which half of the change it is."""
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise _Bad(f"tensor {_shown(name)} belongs to no LoRA layer")
        module = match["module"]
        if module.rsplit(".", 1)[-1] not in self.limits.modules:
            raise _Bad(f"layer {_shown(module)} cannot be adapted")
        if self._shapes and module not in self._shapes:
            raise _Bad(f"the base model has no layer {_shown(module)}")
        return module, match["half"]


class _Bad(Exception):
    """An adapter that is not served, before it is known how the caller names it."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.too_large = too_large


def _read_config(path: Path) -> bytes:
    if not path.is_file():
        raise _Bad(f"there is no {CONFIG}")
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise _Bad(f"{CONFIG} is larger than {MAX_CONFIG_BYTES} bytes", too_large=True)
    return data


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"{CONFIG} is not JSON") from error
    if not isinstance(config, dict):
        raise _Bad(f"{CONFIG} is no JSON object")
    return config


def _header(path: Path, file: BinaryIO, size: int, digest: "hashlib._Hash") -> list[_Tensor]:
    """Return the tensors in the order in which they lie; the file stands at the first of them, `digest` has the rest."""
    lead = file.read(8)
    length = int.from_bytes(lead, "little")
    if len(lead) < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
        raise _Bad(f"{WEIGHTS} is no safetensors file")
    header = file.read(length)
    try:
        # The format's own reader says whether the offsets lie one after the other, end with the file and fit the shapes.
        with safe_open(path, framework="numpy"):
            pass
        entries = json.loads(header, object_pairs_hook=_without_repetition)
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise _Bad(f"{WEIGHTS} cannot be read as safetensors ({str(error)[:200]})") from error
    digest.update(lead)
    digest.update(header)
    found = [
        _Tensor(name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
        for name, entry in entries.items()
        if name != "__metadata__"
    ]
    return sorted(found, key=lambda it: it.begin)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; one with a key twice means different things to different readers."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return found


def largest_values(weights: Path) -> dict[str, float]:
    """Return the largest magnitude in each tensor of a weights file, by name. This blocks.

    Raises:
        InvalidInput: It is no safetensors file.
    """
    digest = hashlib.sha256()
    try:
        with weights.open("rb") as file:
            tensors = _header(weights, file, weights.stat().st_size, digest)
            return {tensor.name: _largest(file, tensor, digest) for tensor in tensors}
    except _Bad as bad:
        raise InvalidInput(f"adapter: {bad.reason}.", param="adapter") from bad


def _check_values(file: BinaryIO, tensors: Sequence[_Tensor], digest: "hashlib._Hash") -> None:
    """Read all values once: each must be a number of ordinary size, and together they must change something."""
    silent: dict[str, bool] = {}
    for tensor in tensors:
        largest = _largest(file, tensor, digest)
        if not math.isfinite(largest):
            raise _Bad(f"tensor {_shown(tensor.name)} holds values that are not finite numbers")
        if largest > _LARGEST:
            raise _Bad(f"tensor {_shown(tensor.name)} holds {largest:g}; values beyond {_LARGEST:g} are not served")
        layer = tensor.name[: -len("lora_A.weight")]
        silent[layer] = silent.get(layer, False) or largest == 0
    if all(silent.values()):
        raise _Bad("it changes nothing: in every layer one half is zero")


def _largest(file: BinaryIO, tensor: _Tensor, digest: "hashlib._Hash") -> float:
    """Return the largest magnitude in a tensor; not a number when one of its values is none."""
    parts = [float(np.abs(numbers).max()) for numbers in _numbers(file, tensor, digest)]
    # NumPy hands NaN on, Python's own `max` does not.
    return float(np.max(parts)) if parts else 0.0


def _numbers(file: BinaryIO, tensor: _Tensor, digest: "hashlib._Hash") -> Iterator[npt.NDArray[np.float32]]:
    left = tensor.end - tensor.begin
    while left:
        data = file.read(min(left, _READ_BYTES))
        if not data or len(data) % _WIDTH[tensor.dtype]:
            raise _Bad(f"{WEIGHTS} changed while it was read")
        digest.update(data)
        left -= len(data)
        match tensor.dtype:
            case "F32":
                yield np.frombuffer(data, "<f4")
            case "F16":
                with np.errstate(invalid="ignore"):
                    yield np.frombuffer(data, "<f2").astype(np.float32)
            case _:
                # NumPy has no bfloat16: it is the upper half of a float32.
                yield (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _shown(value: object) -> str:
    """Return a foreign value for a message, not at any length."""
    return repr(value)[:120]
