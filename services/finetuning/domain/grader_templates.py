"""Templates of graders: text with references such as `{{ item.answer }}` and `{{ sample.output_text }}`.

`item` is the row, `sample` the model's answer: `output_text` is its text, `output_json` the same read as JSON. A reference
names fields and counts entries: `{{ item.facts[0].name }}`. Nothing is computed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_faults import Fault, Ungradable

__all__ = ["MAX_DEPTH", "Reference", "Sample", "Template", "is_shallow", "parse_template"]

# Values of this depth are read and written by every library that meets them.
MAX_DEPTH: Final = 64
_MAX_TEMPLATE_CHARACTERS: Final = 16_384
_MAX_REFERENCES: Final = 64
# Fields can be long, and a template can name one many times.
_MAX_RENDERED_CHARACTERS: Final = 262_144
_MAX_NAMED: Final = 20

_PART: Final = re.compile(r"""\.([^\W\d][\w-]*)|\.?\[?(\d{1,6})\]?|\[(?:'([^']*)'|"([^"]*)")\]""")
_REFERENCE: Final = re.compile(
    r"""\s*(?P<root>[^\W\d]\w*)(?P<path>(?:\.[^\W\d][\w-]*|\.\d{1,6}|\[\d{1,6}\]|\['[^']*'\]|\["[^"]*"\])*)\s*"""
)
_SAMPLE_FIELDS: Final = ("output_text", "output_json")
_USE: Final = "use {{ item.FIELD }}, {{ sample.output_text }} or {{ sample.output_json.FIELD }}"


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer to grade."""

    output_text: str

    def output_json(self) -> Any:
        """Return the answer read as JSON.

        Raises:
            Ungradable: It is no JSON.
        """
        try:
            value = orjson.loads(self.output_text)
        except orjson.JSONDecodeError as error:
            raise Ungradable(Fault.SAMPLE, f"The answer is not JSON: {error}.", of_sample=True) from error
        if not is_shallow(value):
            raise Ungradable(Fault.SAMPLE, f"The answer's JSON nests deeper than {MAX_DEPTH}.", of_sample=True)
        return value


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that a template names.

    Attributes:
        written: As the template has it, braces included.
        root: item or sample.
        path: Fields and entries below it.
    """

    written: str
    root: str
    path: tuple[str | int, ...]

    def value(self, sample: Sample, item: Mapping[str, Any]) -> Any:
        """Return what is referred to.

        Raises:
            Ungradable: There is no such thing.
        """
        if self.root == "item":
            return self._below(item, self.path, "item")
        if self.path[0] == "output_text":
            return sample.output_text
        return self._below(sample.output_json(), self.path[1:], "sample.output_json")

    def _below(self, value: Any, path: tuple[str | int, ...], place: str) -> Any:
        for part in path:
            try:
                value = _part_of(value, part)
            except LookupError as error:
                reason = f"{self.written}: {place} {error.args[0]}"
                raise Ungradable(Fault.VARIABLE, reason, of_sample=self.root == "sample") from error
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
        return value


@dataclass(frozen=True, slots=True)
class Template:
    """A text with references.

    Attributes:
        text: As it was written.
        pieces: Text and references in order.
    """

    text: str
    pieces: tuple[str | Reference, ...]

    @property
    def references(self) -> Iterator[Reference]:
        """What it refers to."""
        return (piece for piece in self.pieces if isinstance(piece, Reference))

    def render(self, sample: Sample, item: Mapping[str, Any]) -> str:
        """Return the text with the values; what is no text is written as JSON.

        Raises:
            Ungradable: A value is missing, or the text grows too long.
        """
        parts: list[str] = []
        length = 0
        for piece in self.pieces:
            part = piece if isinstance(piece, str) else _written(piece.value(sample, item))
            length += len(part)
            if length > _MAX_RENDERED_CHARACTERS:
                reason = f"A template grows to more than {_MAX_RENDERED_CHARACTERS} characters: {self.text[:100]!r}."
                raise Ungradable(Fault.OTHER, reason)
            parts.append(part)
        return "".join(parts)


def parse_template(text: str, *, param: str) -> Template:
    """Read a template.

    Raises:
        InvalidInput: A reference is none, or there is too much of it; the message names the reference.
    """
    if len(text) > _MAX_TEMPLATE_CHARACTERS:
        raise InvalidInput(f"{param}: {len(text)} characters are more than {_MAX_TEMPLATE_CHARACTERS}.", param=param)
    pieces: list[str | Reference] = []
    at = 0
    while (opened := text.find("{{", at)) >= 0:
        closed = text.find("}}", opened)
        if closed < 0:
            raise InvalidInput(f"{param}: {text[opened : opened + 40]!r} is never closed; {_USE}.", param=param)
        pieces += (text[at:opened], _reference(text[opened : closed + 2], param))
        at = closed + 2
    pieces.append(text[at:])
    if len(pieces) > 2 * _MAX_REFERENCES + 1:
        raise InvalidInput(f"{param}: it has more than {_MAX_REFERENCES} references.", param=param)
    return Template(text, tuple(piece for piece in pieces if piece))


def is_shallow(value: Any) -> bool:
    """Return whether a JSON value nests no deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return True
    return False


def _reference(written: str, param: str) -> Reference:
    found = _REFERENCE.fullmatch(written[2:-2])
    if found is None:
        raise InvalidInput(f"{param}: {written[:100]!r} is not a reference; {_USE}.", param=param)
    path = tuple(_part(part) for part in _PART.finditer(found["path"]))
    if found["root"] not in {"item", "sample"}:
        raise InvalidInput(f"{param}: {written[:100]!r}: there is no {found['root'][:40]!r}; {_USE}.", param=param)
    if found["root"] == "sample" and (not path or path[0] not in _SAMPLE_FIELDS):
        known = ", ".join(_SAMPLE_FIELDS)
        raise InvalidInput(f"{param}: {written[:100]!r} is not known; sample has {known}.", param=param)
    if path[:1] == ("output_text",) and found["root"] == "sample" and len(path) > 1:
        raise InvalidInput(
            f"{param}: {written[:100]!r}: output_text is text and has no fields; use sample.output_json.", param=param
        )
    if len(path) > MAX_DEPTH:
        raise InvalidInput(f"{param}: {written[:40]!r} … names more than {MAX_DEPTH} levels.", param=param)
    return Reference(written, found["root"], path)


def _part(found: re.Match[str]) -> str | int:
    name, number, single, double = found.groups()
    if number is not None:
        return int(number)
    return next(text for text in (name, single, double) if text is not None)


def _part_of(value: Any, part: str | int) -> Any:
    """Return a field or an entry.

    Raises:
        LookupError: There is none; its argument goes on after the place's name.
    """
    match value:
        case Mapping():
            if str(part) in value:
                return value[str(part)]
            raise LookupError(f"has no {str(part)[:60]!r}; it has {_named(value)}.")
        case list():
            if isinstance(part, int) and part < len(value):
                return value[part]
            raise LookupError(f"has no entry {str(part)[:60]!r}; it has {len(value)}, counted from 0.")
        case _:
            raise LookupError(f"has no {str(part)[:60]!r}; it is {_kind(value)}.")


def _named(fields: Mapping[str, Any]) -> str:
    if not fields:
        return "no fields"
    names = [name[:40] for name in sorted(fields)]
    return ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else "")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "text"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
