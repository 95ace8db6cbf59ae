"""How much a fault test does: little in CI, much before a release (`BRAIN_FAULTS=release`)."""

import os
from typing import Literal, TypeVar

__all__ = ["VARIABLE", "chosen_size", "size"]

VARIABLE = "BRAIN_FAULTS"

_T = TypeVar("_T")


def chosen_size() -> Literal["ci", "release"]:
    """Return which sizes were asked for.

    Raises:
        ValueError: The variable says neither.
    """
    match os.environ.get(VARIABLE) or "ci":
        case "ci":
            return "ci"
        case "release":
            return "release"
        case said:
            raise ValueError(f"{VARIABLE}: {said!r} is neither 'ci' nor 'release'.")


def size(*, ci: _T, release: _T) -> _T:
    """Return the one of two sizes that was asked for."""
    return release if chosen_size() == "release" else ci
