"""Vectors in the number types of Cohere's embed API.

Our vectors are unit vectors, so that each component lies between -1 and 1: one byte holds it on a fixed scale, and a
bit holds its sign. (Float32, little endian, row-major: what the retrieval room hands out.)
"""

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["as_types"]

Vector = Sequence[float]


def _int8(vector: Vector) -> list[int]:
    return [max(-127, min(127, round(component * 127))) for component in vector]


def _uint8(vector: Vector) -> list[int]:
    return [component + 128 for component in _int8(vector)]


def _ubinary(vector: Vector) -> list[int]:
    """Pack signs, eight to a byte, first component in the highest bit."""
    bits = [component > 0 for component in vector]
    return [
        sum(bit << (7 - place) for place, bit in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8)
    ]


def _binary(vector: Vector) -> list[int]:
    return [byte - 128 for byte in _ubinary(vector)]


def _base64(vector: Vector) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_FORMS: Final[Mapping[str, Callable[[Vector], Any]]] = {
    "float": list,
    "int8": _int8,
    "uint8": _uint8,
    "binary": _binary,
    "ubinary": _ubinary,
    "base64": _base64,
}


def as_types(vectors: Sequence[Vector], types: Sequence[str]) -> dict[str, list[Any]]:
    """Return the vectors once for each type asked for, by type."""
    return {name: [_FORMS[name](vector) for vector in vectors] for name in types}
