"""Files as records with line numbers, whatever separates them: lines of JSON, one JSON array, or a table."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.finetuning.domain.json_lines import BadLine, decoded, shown
from services.finetuning.domain.row_reading import BOM, Errors, Lines, RowLimits

# What matters for where an element of an array ends.
_MARK: Final = re.compile(rb'["\\{}\[\],\n]')
_DELIMITERS: Final = (",", ";", "\t", "|")
# Characters of the header, and of what is looked at for its dialect.
_LONGEST_HEADER: Final = 65_536


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file: an object of JSON, or a row of a table by the names of its columns."""

    line: int
    value: Any


class Records:
    """The records of a file; reads it once, in order.

    Args:
        data: The bytes in pieces.
        limits: What the file may hold.
        errors: Where faults go.
        known: Names of columns by which a table is recognised, in normal form (`column_name`).
    """

    def __init__(self, data: Iterable[bytes], *, limits: RowLimits, errors: Errors, known: frozenset[str]) -> None:
        self._limits = limits
        self._errors = errors
        self._known = known
        head, self._data = _head(iter(data))
        self.is_table = head not in {b"{", b"["}
        """Whether the file is no JSON."""
        self._is_array = head == b"["

    def __iter__(self) -> Iterator[Record]:
        if self.is_table:
            return self._rows()
        return self._decoded(self._elements() if self._is_array else self._lines())

    def _decoded(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[Record]:
        for line, piece in pieces:
            try:
                yield Record(line, decoded(piece, max_depth=self._limits.max_depth))
            except BadLine as bad:
                self._errors.add(bad.code, line, bad.field, bad.message)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        lines = Lines(self._limits, self._errors)
        for piece in self._data:
            yield from lines.feed(piece)
        yield from lines.finish()

    def _elements(self) -> Iterator[tuple[int, bytes]]:
        array = _Array(self._limits, self._errors)
        for piece in _bounded(self._data, self._limits, self._errors):
            yield from array.feed(piece)
        array.finish()

    def _rows(self) -> Iterator[Record]:
        lines = _text_lines(_bounded(self._data, self._limits, self._errors), self._limits, self._errors)
        header = next(lines, "")
        if not header.strip():
            return
        table = _table(header, self._known)
        # What stands above a column may be broken over lines, so that the reader gets the header, too.
        reader = csv.reader(itertools.chain([header], lines), strict=True, **table)
        names: Sequence[str] = ()
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._errors.add(
                    "not_csv", line, "", f"{error}; close every quote and write a quote inside a cell twice"
                )
                continue
            if not names:
                names = [column_name(cell) for cell in cells]
                if not self._named(names, cells):
                    return
            elif any(cell.strip() for cell in cells):
                if len(cells) != len(names):
                    self._errors.add(
                        "wrong_columns",
                        line,
                        "",
                        f"the row has {len(cells)} cells; the header has {len(names)} columns",
                    )
                else:
                    yield Record(line, dict(zip(names, cells, strict=True)))

    def _named(self, names: Sequence[str], cells: Sequence[str]) -> bool:
        if not self._known & set(names):
            self._errors.add(
                "no_header",
                1,
                "",
                f"{shown(', '.join(cells))} names no known column; the first line must be a header with "
                f"{', '.join(sorted(self._known))} or some of them",
            )
            return False
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            self._errors.add("no_header", 1, twice[0], "is the name of two columns; use it once")
        return not twice


def column_name(cell: str) -> str:
    """Return the name of a column in normal form: lower case, words joined by underscores."""
    return re.sub(r"[\s\-]+", "_", cell.strip().casefold())


def _head(data: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first byte that is no white space, and all the bytes."""
    pieces = []
    first = b""
    for piece in data:
        pieces.append(piece)
        first = b"".join(pieces).removeprefix(BOM).lstrip()[:1] if len(pieces) == 1 else piece.lstrip()[:1]
        if first:
            break
    return first, itertools.chain(pieces, data)


def _bounded(data: Iterable[bytes], limits: RowLimits, errors: Errors) -> Iterator[bytes]:
    read = 0
    for piece in data:
        yield piece if read else piece.removeprefix(BOM)
        read += len(piece)
        if read > limits.max_file_bytes:
            errors.add(
                "file_too_large", 0, "", f"the file holds more than {limits.max_file_bytes} bytes; use several files"
            )
            return


class _Array:
    """Finds the elements of one JSON array as its bytes come in."""

    def __init__(self, limits: RowLimits, errors: Errors) -> None:
        self._limits = limits
        self._errors = errors
        self._element = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._dropping = False
        self._line = 1
        self._began = 0
        self._after = 1
        self._closed = False

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the elements that end in `data`, with the lines at which they begin."""
        taken = 0
        for at, mark in self._marks(data):
            if mark in b"[{":
                self._depth += 1
                if self._depth == 1:
                    taken, self._after = at + 1, self._line
                elif not self._began:
                    self._began = self._line
                continue
            closes = mark in b"]}"
            self._depth -= closes
            if self._depth == 0 or (self._depth == 1 and not closes):
                yield from self._end(data[taken:at])
                taken, self._closed = at + 1, closes
        self._take(data[taken:])

    def _marks(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the brackets and commas outside of strings, up to the end of the array; counts lines."""
        # A backslash hides what follows it, also in the next piece.
        hidden = 0 if self._escaped and data else -1
        self._escaped = self._escaped and not data
        for match in _MARK.finditer(data):
            at, mark = match.start(), match.group()
            self._line += mark == b"\n"
            if at == hidden or self._closed:
                continue
            if mark == b'"':
                self._in_string = not self._in_string
            elif not self._in_string and mark not in b"\\\n":
                yield at, mark
            elif mark == b"\\" and self._in_string:
                hidden = at + 1
                self._escaped = hidden == len(data)

    def finish(self) -> None:
        """Note an array that is not closed, or followed by something."""
        if not self._closed:
            self._errors.add("not_json", self._line, "", "the array is not closed; end it with ]")
        elif self._element.strip():
            self._errors.add("not_json", self._line, "", "something follows the array; write one array only")

    def _take(self, data: bytes) -> None:
        if len(self._element) + len(data) > self._limits.max_line_bytes:
            self._dropping = True
            self._element.clear()
        elif not self._dropping:
            self._element += data

    def _end(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self._take(data)
        line, element = self._began or self._after, bytes(self._element).strip()
        if self._dropping:
            most = self._limits.max_line_bytes
            self._errors.add("line_too_long", line, "", f"the element holds more than {most} bytes; shorten it")
        elif element:
            yield line, element
        self._element.clear()
        self._dropping, self._began, self._after = False, 0, self._line


def _text_lines(data: Iterable[bytes], limits: RowLimits, errors: Errors) -> Iterator[str]:
    """Yield the lines of a text with their line breaks; ends at the first that is not UTF-8 or too long, and notes it."""
    pending = b""
    number = 0
    for piece in itertools.chain(filter(None, data), [b""]):
        *whole, pending = (pending + piece).split(b"\n")
        lines = [line + b"\n" for line in whole] + ([] if piece or not pending else [pending])
        for line in lines:
            number += 1
            try:
                yield line.decode("utf-8", errors="strict")
            except UnicodeDecodeError:
                errors.add("not_utf8", number, "", "the line is not UTF-8; save the table as CSV in UTF-8")
                return
        if len(pending) > limits.max_line_bytes:
            errors.add("line_too_long", number + 1, "", f"the line holds more than {limits.max_line_bytes} bytes")
            return


def _table(header: str, known: frozenset[str]) -> dict[str, Any]:
    """Return the dialect under which the header names the most known columns; commas when none does."""
    head = header[:_LONGEST_HEADER]
    named = {
        delimiter: len(known & {column_name(cell) for cell in _cells(head, delimiter)}) for delimiter in _DELIMITERS
    }
    return {"delimiter": max(_DELIMITERS, key=lambda delimiter: named[delimiter])}


def _cells(head: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([head], delimiter=delimiter), [])
    except csv.Error:
        return []
