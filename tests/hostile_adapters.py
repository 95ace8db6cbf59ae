"""Adapters that must not be served: two files each, made by hand, wrong in one way each."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.chassis.errors import BrainError, InvalidInput, TooLarge

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
RANK, WIDTH = 4, 576
# Name, header entry without offsets, bytes.
Tensor = tuple[str, dict[str, object], bytes]


@dataclass(frozen=True)
class Hostile:
    """Files of an adapter, and what is said of it.

    Attributes:
        shapes: Whether only an engine that knows its layers' shapes can see what is wrong.
    """

    name: str
    config: bytes
    weights: bytes
    reason: str
    error: type[BrainError] = InvalidInput
    shapes: bool = False


def tensor(name: str, shape: tuple[int, ...], dtype: str = "F32", value: float | bytes = 0.01) -> Tensor:
    count = int(np.prod(shape))
    if isinstance(value, bytes):
        data = value * count
    elif dtype == "BF16":
        data = (np.full(count, value, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = np.full(count, value, {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).tobytes()
    return name, {"dtype": dtype, "shape": list(shape)}, data


def pack(*tensors: Tensor) -> bytes:
    """The format: length of the header, header, data."""
    header, data = {}, b""
    for name, entry, part in tensors:
        header[name] = entry | {"data_offsets": [len(data), len(data) + len(part)]}
        data += part
    return raw(json.dumps(header).encode(), data)


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def a(shape: tuple[int, ...] = (RANK, WIDTH), stem: str = STEM, **more: object) -> Tensor:
    return tensor(f"{stem}.lora_A.weight", shape, **more)  # type: ignore[arg-type]


def b(shape: tuple[int, ...] = (WIDTH, RANK), stem: str = STEM, **more: object) -> Tensor:
    return tensor(f"{stem}.lora_B.weight", shape, **more)  # type: ignore[arg-type]


GOOD = pack(a(), b())
GOOD_CONFIG = json.dumps(CONFIG).encode()


def one_value(make: Callable[..., Tensor], dtype: str, value: bytes) -> bytes:
    """An adapter with a single value that is none, at the very end of a half."""
    name, entry, data = make(dtype=dtype)
    return pack((name, entry, data[: -len(value)] + value), b() if make is a else a())


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    return file.getvalue()


def _weights() -> list[Hostile]:
    embedding = "base_model.model.model.embed_tokens"
    cases = [
        ("inner width", pack(a((RANK, 64)), b()), "does not fit", True),
        ("outer width", pack(a(), b((64, RANK))), "does not fit", True),
        ("a layer that the base lacks", pack(a(stem=STEM.replace(".0.", ".99.")), b(stem=STEM.replace(".0.", ".99."))), "no layer", True),
        ("three dimensions", pack(a((RANK, WIDTH, 1)), b()), "no matrix", False),
        ("one dimension", pack(a((RANK * WIDTH,)), b()), "no matrix", False),
        ("only one half", pack(a()), "only one of", False),
        ("another rank than said", pack(a((8, WIDTH)), b((WIDTH, 8))), "another rank", False),
        ("halves of two ranks", pack(a(), b((WIDTH, 8))), "another rank", False),
        ("output layer", pack(a(stem="base_model.model.lm_head"), b(stem="base_model.model.lm_head")), "cannot be adapted", False),
        ("embedding halves", pack(a(), b(), tensor(f"{embedding}.lora_embedding_A", (RANK, 8)), tensor(f"{embedding}.lora_embedding_B", (8, RANK))), "no LoRA layer", False),
        ("whole layer beside", pack(a(), b(), tensor(f"{embedding}.base_layer.weight", (8, 8))), "no LoRA layer", False),
        ("saved module beside", pack(a(), b(), tensor("base_model.model.score.weight", (2, 8))), "no LoRA layer", False),
        ("magnitudes of DoRA beside", pack(a(), b(), tensor(f"{STEM}.lora_magnitude_vector", (WIDTH,))), "no LoRA layer", False),
        ("a bias beside", pack(a(), b(), tensor(f"{STEM}.bias", (WIDTH,))), "no LoRA layer", False),
        ("name leads out of the folder", pack(a(), b(), tensor("../../../../etc/passwd", (1, 1))), "no LoRA layer", False),
        ("name with a path in its place", pack(a(stem="base_model.model./tmp/x.q_proj"), b()), "no LoRA layer", False),
        ("second name for one half", pack(a(), b(), tensor(f"{STEM}.lora_A.default.weight", (1, 1))), "no LoRA layer", False),
        ("not a number", one_value(a, "F32", struct.pack("<f", float("nan"))), "not finite", False),
        ("infinite", one_value(b, "F32", struct.pack("<f", float("-inf"))), "not finite", False),
        ("not a number in 16 bits", one_value(a, "F16", b"\x00\x7e"), "not finite", False),
        ("signalling, in 16 bits", one_value(a, "F16", b"\x01\x7c"), "not finite", False),
        ("not a number in bfloat16", one_value(a, "BF16", b"\xc0\x7f"), "not finite", False),
        ("infinite in bfloat16", one_value(b, "BF16", b"\x80\xff"), "not finite", False),
        ("infinite where engines compute", pack(a(value=1e30), b()), "beyond 65504", False),
        ("double precision", pack(a(dtype="F64"), b()), "type 'F64'", False),
        ("integers", pack(a(dtype="I8", value=b"\x01"), b()), "type 'I8'", False),
        ("a type nobody knows", pack(a(dtype="Q4_K", value=b"\x01\x01\x01\x01"), b()), "as safetensors", False),
        ("nothing but zeros in one half", pack(a(), b(value=0.0)), "changes nothing", False),
        ("no tensors", pack(), "no tensors", False),
        ("no tensors but metadata", raw(b'{"__metadata__": {"format": "pt"}}'), "no tensors", False),
        ("empty file", b"", "no safetensors", False),
        ("length and nothing more", raw(b""), "as safetensors", False),
        ("cut in the middle", GOOD[: len(GOOD) // 2], "as safetensors", False),
        ("cut by one byte", GOOD[:-1], "as safetensors", False),
        ("bytes at the end", GOOD + b"PK\x03\x04", "as safetensors", False),
        ("a header longer than the file", raw(b"{}", length=1 << 40), "no safetensors", False),
        ("a header as long as numbers go", raw(b"{}", length=(1 << 64) - 1), "no safetensors", False),
        ("a header without end", raw(b" " * (5 << 20)), "no safetensors", False),
        ("a header that is no JSON", raw(b"not json at all"), "as safetensors", False),
        ("a header that is a list", raw(b"[1, 2]"), "as safetensors", False),
        ("a header nested without end", raw(b'{"a":' * 50_000), "as safetensors", False),
        ("a pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR.", "no safetensors", False),
        ("an archive as torch.save writes it", _archive(), "no safetensors", False),
        ("a name twice", _twice(), "twice", False),
        ("offsets that overlap", _offsets(second=0), "as safetensors", False),
        ("offsets with a hole", _offsets(second=RANK * WIDTH * 4 + 64), "as safetensors", False),
        ("offsets that run backwards", _offsets(second=-1), "as safetensors", False),
        ("a shape of more numbers than there are", _shape([1 << 40, 1 << 40]), "as safetensors", False),
        ("a negative shape", _shape([-4, -576]), "as safetensors", False),
    ]  # fmt: skip
    return [Hostile(name, GOOD_CONFIG, weights, reason, shapes=shapes) for name, weights, reason, shapes in cases]


def _twice() -> bytes:
    """Two entries of one name for the same bytes: readers that take the first and the last see different shapes."""
    halves, data = (a(), b()), a()[2] + b()[2]
    first = {"dtype": "F32", "shape": [RANK, WIDTH], "data_offsets": [0, len(a()[2])]}
    second = {"dtype": "F32", "shape": [WIDTH, RANK], "data_offsets": [len(a()[2]), len(data)]}
    entries = [(halves[0][0], first | {"shape": [WIDTH, RANK]}), (halves[0][0], first), (halves[1][0], second)]
    return raw(
        ("{" + ", ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries) + "}").encode(), data
    )


def _offsets(*, second: int) -> bytes:
    size = RANK * WIDTH * 4
    header = {
        a()[0]: {"dtype": "F32", "shape": [RANK, WIDTH], "data_offsets": [0, size]},
        b()[0]: {"dtype": "F32", "shape": [WIDTH, RANK], "data_offsets": [second, second + size]},
    }
    return raw(json.dumps(header).encode(), a()[2] + b()[2])


def _shape(shape: list[int]) -> bytes:
    size = RANK * WIDTH * 4
    header = {
        a()[0]: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]},
        b()[0]: {"dtype": "F32", "shape": [WIDTH, RANK], "data_offsets": [size, 2 * size]},
    }
    return raw(json.dumps(header).encode(), a()[2] + b()[2])


def _configs() -> list[Hostile]:
    cases: list[tuple[str, dict[str, object], str]] = [
        ("another method", {"peft_type": "IA3"}, "only LORA"),
        ("DoRA", {"use_dora": True}, "use_dora"),
        ("activated LoRA", {"alora_invocation_tokens": [1]}, "alora"),
        ("modules saved whole", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ("biases", {"bias": "all"}, "bias"),
        ("biases of the halves", {"lora_bias": True}, "lora_bias"),
        ("ranks by layer", {"rank_pattern": {"q_proj": 256}}, "rank_pattern"),
        ("scales by layer", {"alpha_pattern": {"q_proj": 1e9}}, "alpha_pattern"),
        ("layers repeated", {"layer_replication": [[0, 30], [0, 30]]}, "layer_replication"),
        ("a base changed at the start", {"init_lora_weights": "pissa"}, "init_lora_weights"),
        ("rows of the embedding", {"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ("a flag that is none", {"use_rslora": "yes"}, "use_rslora"),
        ("rank beyond the largest", {"r": 1 << 30}, "rank"),
        ("rank zero", {"r": 0}, "rank"),
        ("rank in words", {"r": "4"}, "rank"),
        ("scale zero", {"lora_alpha": 0}, "lora_alpha"),
        ("scale below zero", {"lora_alpha": -8}, "lora_alpha"),
        ("scale without end", {"lora_alpha": 1e300}, "lora_alpha"),
        ("scale that is no number", {"lora_alpha": float("nan")}, "lora_alpha"),
        ("scale infinite", {"lora_alpha": float("inf")}, "lora_alpha"),
        ("a pattern that never ends", {"target_modules": "(((a+)+)+)+$"}, "target_modules"),
        ("every layer by a word", {"target_modules": "all-linear"}, "target_modules"),
        ("the output layer", {"target_modules": ["lm_head"]}, "target_modules"),
        ("the embedding", {"target_modules": ["q_proj", "embed_tokens"]}, "target_modules"),
        ("no layers", {"target_modules": []}, "target_modules"),
        ("layers that are no names", {"target_modules": [["q_proj"]]}, "target_modules"),
    ]
    texts = [
        ("no JSON", b"peft_type: LORA", "not JSON"),
        ("nothing", b"", "not JSON"),
        ("a list", b"[]", "no JSON object"),
        ("nested without end", b"[" * 200_000, "not JSON"),
        ("objects nested without end", b'{"a":' * 100_000, "not JSON"),
        ("bytes", bytes(range(256)), "not JSON"),
        ("a number without end", b'{"r": ' + b"9" * 100_000 + b"}", "not JSON"),
    ]
    found = [
        Hostile(f"config: {name}", json.dumps(CONFIG | change).encode(), GOOD, said) for name, change, said in cases
    ]
    found += [Hostile(f"config: {name}", text, GOOD, said) for name, text, said in texts]
    padded = json.dumps(CONFIG | {"note": "x" * (1 << 20)}).encode()
    return [*found, Hostile("config: too large", padded, GOOD, "1048576", TooLarge)]


HOSTILE = [*_weights(), *_configs()]
