"""OpenAI's filter language over a document's attributes: parsed, validated, and decided here.

A comparison is `{"type": eq|ne|gt|gte|lt|lte|in|nin, "key": …, "value": …}`, a compound `{"type": and|or, "filters": […]}`.
A document without the attribute satisfies `ne` and `nin` and no other comparison.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from services.chassis.errors import InvalidInput

_ORDERED: Final = ("gt", "gte", "lt", "lte")
_COMPARISONS: Final = ("eq", "ne", *_ORDERED, "in", "nin")
_COMPOUNDS: Final = ("and", "or")
# More than any person writes; keeps a hostile filter from costing more than the search.
_MAX_NODES: Final = 100
_MAX_DEPTH: Final = 10
_MAX_KEY: Final = 64
_MAX_VALUES: Final = 100

# JSON may spell what no text can hold and no store takes.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Scalar = str | float | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute against a value, or a tuple of values for `in` and `nin`."""

    type: str
    key: str
    value: Scalar | tuple[Scalar, ...]

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether a document with these attributes satisfies the comparison."""
        held = attributes.get(self.key)
        wanted = self.value if isinstance(self.value, tuple) else (self.value,)
        if self.type in _ORDERED:
            return held is not None and _ordered(self.type, held, wanted[0])
        found = held is not None and any(attribute_term("", held) == attribute_term("", value) for value in wanted)
        return found if self.type in {"eq", "in"} else not found


@dataclass(frozen=True, slots=True)
class Compound:
    """All (`and`) or any (`or`) of some filters."""

    type: str
    filters: tuple["Filter", ...]

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether a document with these attributes satisfies the filters."""
        results = (part.matches(attributes) for part in self.filters)
        return all(results) if self.type == "and" else any(results)


Filter = Comparison | Compound
# What an index says conditions in.
Word = TypeVar("Word")


def attribute_term(key: str, value: Scalar) -> str:
    """Return one string that stands for an attribute having a value; equal values of one kind give equal terms."""
    if isinstance(value, bool):
        return f"{key}=b:{str(value).lower()}"
    if isinstance(value, int | float):
        # Adding zero makes one of the two zeros.
        return f"{key}=n:{float(value) + 0.0!r}"
    return f"{key}=s:{value}"


def attribute_terms(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the terms of all attributes, for an index that can only ask for membership."""
    return tuple(sorted(attribute_term(key, value) for key, value in attributes.items()))


def folded(
    condition: Filter | None,
    *,
    comparison: Callable[[Comparison], Word | None],
    every: Callable[[list[Word]], Word],
    some: Callable[[list[Word]], Word],
) -> Word | None:
    """Return a filter in an index's own words, or None where the index cannot decide it and the check afterwards does.

    What comes out lets more through than the filter, never less.

    Args:
        condition: The filter; None lets everything through.
        comparison: Says a comparison, or None where the index cannot.
        every: Joins words that must all hold.
        some: Joins words of which one must hold.
    """
    if condition is None:
        return None
    if isinstance(condition, Comparison):
        return comparison(condition)
    parts = [folded(part, comparison=comparison, every=every, some=some) for part in condition.filters]
    known = [part for part in parts if part is not None]
    if not known or (condition.type == "or" and len(known) < len(parts)):
        return None
    return every(known) if condition.type == "and" else some(known)


def parse_filter(text: str) -> Filter | None:
    """Return the filter that a JSON text stands for; None for an empty text.

    Raises:
        InvalidInput: It is no filter; the message names what is wrong and what is allowed.
    """
    if not text.strip():
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("filters: not JSON.", param="filters") from error
    budget = [_MAX_NODES]
    return _parse(value, "filters", 1, budget)


def _parse(value: Any, where: str, depth: int, budget: list[int]) -> Filter:
    budget[0] -= 1
    if budget[0] < 0 or depth > _MAX_DEPTH:
        raise _wrong("filters", f"more than {_MAX_NODES} conditions or {_MAX_DEPTH} levels")
    if not isinstance(value, dict):
        raise _wrong(where, "must be an object with a type")
    kind = value.get("type")
    if kind in _COMPOUNDS:
        parts = value.get("filters")
        if not isinstance(parts, list) or not parts:
            raise _wrong(f"{where}.filters", "must be a list of at least one filter")
        return Compound(
            kind, tuple(_parse(part, f"{where}.filters[{at}]", depth + 1, budget) for at, part in enumerate(parts))
        )
    if kind not in _COMPARISONS:
        raise _wrong(f"{where}.type", f"{kind!r} is not one of {', '.join((*_COMPARISONS, *_COMPOUNDS))}")
    key = value.get("key")
    if not isinstance(key, str) or not 1 <= len(key) <= _MAX_KEY:
        raise _wrong(f"{where}.key", f"must be a name of 1 to {_MAX_KEY} characters")
    _check_text(key, f"{where}.key")
    return Comparison(kind, key, _operand(kind, value.get("value"), f"{where}.value"))


def _operand(kind: str, value: Any, where: str) -> Scalar | tuple[Scalar, ...]:
    if kind in {"in", "nin"}:
        if not isinstance(value, list) or not 1 <= len(value) <= _MAX_VALUES:
            raise _wrong(where, f"must be a list of 1 to {_MAX_VALUES} values")
        return tuple(_scalar(item, where) for item in value)
    scalar = _scalar(value, where)
    if kind in _ORDERED and isinstance(scalar, bool):
        raise _wrong(where, f"{kind} compares numbers or strings")
    return scalar


def _scalar(value: Any, where: str) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        raise _wrong(where, "must be a string, a number or a boolean")
    if isinstance(value, str):
        _check_text(value, where)
    if isinstance(value, float) and value != value:  # noqa: PLR0124  NaN is no number to compare with
        raise _wrong(where, "must be a number")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**63:
        raise _wrong(where, "must lie within 64 bits")
    return value


def _check_text(value: str, where: str) -> None:
    if _SURROGATE.search(value):
        raise _wrong(where, "holds half a surrogate pair, which is no text")


def _ordered(kind: str, held: Any, wanted: Any) -> bool:
    if isinstance(held, bool) or isinstance(held, str) != isinstance(wanted, str):
        return False
    match kind:
        case "gt":
            return bool(held > wanted)
        case "gte":
            return bool(held >= wanted)
        case "lt":
            return bool(held < wanted)
        case _:
            return bool(held <= wanted)


def _wrong(where: str, why: str) -> InvalidInput:
    return InvalidInput(f"{where}: {why}.", param="filters")
