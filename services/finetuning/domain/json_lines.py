"""One line of a file that somebody sent, as JSON: strict, bounded, and every refusal with a reason."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

# Longer values are cut where an error shows them.
_SHOWN_CHARACTERS: Final = 60
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class BadLine(Exception):
    """A line is not what it must be.

    Args:
        code: Stable name of what is wrong.
        field: Where in the row; empty for the whole line.
        message: What is wrong, the value and what is allowed.
    """

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message


def decoded(data: bytes, *, max_depth: int) -> Any:
    """Return the JSON value of a line.

    Raises:
        BadLine: It is not UTF-8, not JSON, too deep, says a key twice, or holds what no text may hold: NUL, half a
            surrogate pair, a number that is none.
    """
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise BadLine(
            "not_utf8",
            "",
            f"byte {error.start + 1} of the line, 0x{data[error.start]:02x}, is not UTF-8; save the file as UTF-8",
        ) from error
    if text.startswith("\ufeff"):
        raise BadLine(
            "not_json", "", "the line begins with a byte order mark; one is allowed at the start of the file only"
        )
    if text.count("[") + text.count("{") > max_depth < _depth(text):
        raise BadLine(
            "too_deep", "", f"objects and arrays are nested more than {max_depth} deep; use at most {max_depth}"
        )
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise BadLine(
            "not_json", "", f"column {error.colno}: {error.msg}; write one JSON object on each line"
        ) from error
    escaped = text.lower()
    if "\\ud" in escaped or "\\u0000" in escaped:
        _check_strings(value)
    return value


def shown(value: Any) -> str:
    """Return a value as an error shows it: strings in quotes and cut, objects and arrays by their kind."""
    if isinstance(value, str):
        cut = value[:_SHOWN_CHARACTERS]
        return json.dumps(cut, ensure_ascii=True) + ("…" if len(value) > _SHOWN_CHARACTERS else "")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    return json.dumps(value)


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        bracket = match.group()
        if bracket in {"[", "{"}:
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in {"]", "}"}:
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadLine("duplicate_key", "", f"the key {shown(key)} stands twice in one object; use it once")
            seen.add(key)
    return found


def _no_number(name: str) -> NoReturn:
    raise BadLine("not_json", "", f"{name} is not JSON; use a number or null")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadLine("not_json", "", f"the number {digits[:_SHOWN_CHARACTERS]} is too large; use one below 1.8e308")
    return number


# More digits than any id or count has; Python refuses to read 4,300 and more.
_MOST_DIGITS: Final = 400


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise BadLine("not_json", "", f"an integer has {len(digits)} digits; use at most {_MOST_DIGITS}")
    return int(digits)


def _check_strings(value: Any) -> None:
    for text in _strings(value):
        if "\x00" in text:
            raise BadLine("nul", "", f"{shown(text)} holds the character NUL; leave it out")
        if _SURROGATE.search(text):
            raise BadLine("surrogate", "", f"{shown(text)} holds half of a surrogate pair; write whole characters")


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
