r"""Reading rows from the bytes of a JSONL file: line by line, within limits, with every fault at its line.

>>> reader = RowReader(RowKind.TEXT)
>>> reader.feed(b'{"text": "The pond is closed in May."}\\n')
[NumberedRow(line=1, row=TextRow(text='The pond is closed in May.', ...
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.finetuning.domain.json_lines import BadLine, decoded
from services.finetuning.domain.row_shapes import parsed
from services.finetuning.domain.rows import Row, RowKind

BOM: Final = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What a file of rows may hold.

    Attributes:
        max_file_bytes: Bytes of the file; 512 MiB is what the OpenAI API takes.
        max_line_bytes: Bytes of one line: more than any model reads.
        max_rows: Rows; all are held in memory at once.
        max_depth: Objects and arrays within each other.
        max_errors: Faults that are kept with their lines; further ones are counted.
    """

    max_file_bytes: int = 512 << 20
    max_line_bytes: int = 4 << 20
    max_rows: int = 200_000
    max_depth: int = 32
    max_errors: int = 50


@dataclass(frozen=True, slots=True)
class RowError:
    """A fault of a file.

    Attributes:
        code: Stable name of what is wrong (docs/tuning.md).
        line: Line, from 1; 0 for the file as a whole.
        field: Where in the row; empty for the line as a whole.
        message: What is wrong: the value and what is allowed.
    """

    code: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else "file"
        return f"{place}, {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A row with the line at which it begins."""

    line: int
    row: Row


@dataclass(frozen=True, slots=True)
class RowFile:
    """What a file holds.

    Attributes:
        rows: The rows that are right, in order.
        errors: The first faults.
        error_count: All faults.
        kind: What the rows teach; None when there is no row to tell.
    """

    rows: tuple[NumberedRow, ...]
    errors: tuple[RowError, ...]
    error_count: int
    kind: RowKind | None = None


class Errors:
    """Keeps the first faults and counts all.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[RowError] = []
        self.count = 0

    def add(self, code: str, line: int, field: str, message: str) -> None:
        """Note a fault."""
        self.count += 1
        if len(self._kept) < self._most:
            self._kept.append(RowError(code, line, field, message))

    @property
    def kept(self) -> tuple[RowError, ...]:
        """The first faults, in order."""
        return tuple(self._kept)


class Lines:
    """Cuts bytes into lines; what is longer than allowed is dropped up to its end and reported.

    Args:
        limits: What the file may hold.
        errors: Where faults go.
    """

    def __init__(self, limits: RowLimits, errors: Errors) -> None:
        self._limits = limits
        self._errors = errors
        self._pending = bytearray()
        self._dropping = False
        self._read = 0
        self._number = 0
        self.stopped = False
        """Whether the file is larger than allowed and nothing more of it is read."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the lines that end in `data`, with their numbers."""
        if self.stopped:
            return []
        self._read += len(data)
        if self._read > self._limits.max_file_bytes:
            self.stop(
                "file_too_large",
                f"the file holds more than {self._limits.max_file_bytes} bytes; use several files, or fewer rows",
            )
            return []
        found = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._take(data[start:end])
            line = self._line()
            if line is not None:
                found.append(line)
            start = end + 1
        self._take(data[start:])
        return found

    def finish(self) -> list[tuple[int, bytes]]:
        """Return the last line when no line break ends it."""
        line = self._line() if not self.stopped and (self._pending or self._dropping) else None
        return [] if line is None else [line]

    def stop(self, code: str, message: str) -> None:
        """Report a fault of the whole file and read nothing more."""
        self._errors.add(code, 0, "", message)
        self.stopped = True
        self._pending.clear()

    def _take(self, data: bytes) -> None:
        if self._dropping:
            return
        if len(self._pending) + len(data) > self._limits.max_line_bytes:
            self._dropping = True
            self._pending.clear()
        else:
            self._pending += data

    def _line(self) -> tuple[int, bytes] | None:
        self._number += 1
        line, dropped = bytes(self._pending), self._dropping
        if self._number == 1:
            # RFC 8259 lets a reader ignore it, and spreadsheets write it.
            line = line.removeprefix(BOM)
        self._pending.clear()
        self._dropping = False
        if dropped:
            most = self._limits.max_line_bytes
            self._errors.add("line_too_long", self._number, "", f"the line holds more than {most} bytes; shorten it")
            return None
        return None if not line.strip() else (self._number, line)


class RowReader:
    """Reads the rows of one kind; nothing that a file holds makes it raise.

    Args:
        kind: What the rows must teach.
        limits: What the file may hold.
    """

    def __init__(self, kind: RowKind, *, limits: RowLimits | None = None) -> None:
        self._kind = kind
        self._limits = limits or RowLimits()
        self._errors = Errors(self._limits.max_errors)
        self._lines = Lines(self._limits, self._errors)
        self._rows = 0

    @property
    def errors(self) -> tuple[RowError, ...]:
        """The first faults, in order."""
        return self._errors.kept

    @property
    def error_count(self) -> int:
        """All faults."""
        return self._errors.count

    def feed(self, data: bytes) -> list[NumberedRow]:
        """Take the next bytes; return the rows that they complete."""
        return self._parsed(self._lines.feed(data))

    def finish(self) -> list[NumberedRow]:
        """Return the row of a last line without a line break; note it when the file holds nothing."""
        found = self._parsed(self._lines.finish())
        if not self._rows and not self._errors.count:
            self._errors.add("no_rows", 0, "", "the file holds no rows; write one JSON object on each line")
        return found

    def _parsed(self, lines: Iterable[tuple[int, bytes]]) -> list[NumberedRow]:
        found: list[NumberedRow] = []
        for number, line in lines:
            if self._lines.stopped:
                break
            try:
                row, faults = parsed(decoded(line, max_depth=self._limits.max_depth), self._kind)
            except BadLine as bad:
                self._errors.add(bad.code, number, bad.field, bad.message)
                continue
            for fault in faults:
                self._errors.add(fault.code, number, fault.field, fault.message)
            if row is None:
                continue
            if self._rows == self._limits.max_rows:
                self._lines.stop("too_many_rows", f"the file holds more than {self._rows} rows; use several files")
                break
            self._rows += 1
            found.append(NumberedRow(number, row))
        return found


def read_rows(data: Iterable[bytes], kind: RowKind, *, limits: RowLimits | None = None) -> RowFile:
    """Return the rows of a file whose bytes come in pieces."""
    reader = RowReader(kind, limits=limits)
    rows: list[NumberedRow] = []
    for piece in data:
        rows += reader.feed(piece)
    rows += reader.finish()
    return RowFile(tuple(rows), reader.errors, reader.error_count, kind)
