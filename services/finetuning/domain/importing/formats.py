"""Which format a file is in, and its rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.importing.alpaca import from_alpaca, looks_like_alpaca
from services.finetuning.domain.importing.columns import KNOWN_COLUMNS, from_columns
from services.finetuning.domain.importing.conversions import Converted, Unconvertible
from services.finetuning.domain.importing.records import Record, Records
from services.finetuning.domain.importing.sharegpt import from_sharegpt, looks_like_sharegpt
from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.row_reading import Errors, NumberedRow, RowFile, RowLimits
from services.finetuning.domain.row_shapes import kind_like, parsed
from services.finetuning.domain.rows import FileSource, Row, RowKind


class Format(StrEnum):
    """Formats that are read."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_PREFERENCE = "openai_preference"
    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    CSV = "csv"
    ROWS = "rows"
    """Our own: any kind of row, known by its keys."""


FORMATS: Final = ", ".join(Format)
"""The names of the formats, as messages list them."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows of a file and the format that it was read in; None when it holds no record to tell."""

    format: Format | None
    file: RowFile


def imported(
    data: Iterable[bytes], *, format_name: str = "", file_id: str = "", limits: RowLimits | None = None
) -> Imported:
    """Return the rows of a file in another format. Nothing that the file holds makes it raise.

    Args:
        data: The bytes in pieces.
        format_name: One of `FORMATS`; empty looks at the file.
        file_id: Named as the source of each row, with the line; empty for none.
        limits: What the file may hold.

    Raises:
        InvalidInput: `format_name` is none.
    """
    if format_name and format_name not in set(Format):
        raise InvalidInput(f"format: {shown(format_name)} is not allowed; use {FORMATS}.", param="format")
    bounds = limits or RowLimits()
    errors = Errors(bounds.max_errors)
    records = Records(data, limits=bounds, errors=errors, known=KNOWN_COLUMNS)
    reading = _Reading(Format(format_name) if format_name else None, file_id=file_id, limits=bounds, errors=errors)
    if records.is_table:
        reading.format = reading.format or Format.CSV
    if (reading.format is Format.CSV) is not records.is_table:
        wanted = "a table with a header" if reading.format is Format.CSV else "JSON"
        errors.add("wrong_format", 0, "format", f"the file is not {wanted}, as {reading.format or 'JSON'} must be")
        return Imported(reading.format, RowFile((), errors.kept, errors.count))
    rows = reading.rows(records)
    return Imported(reading.format, RowFile(rows, errors.kept, errors.count, reading.kind))


_CONVERSIONS: Final[Mapping[Format, Callable[[Mapping[str, Any]], Converted]]] = {
    Format.ALPACA: from_alpaca,
    Format.SHAREGPT: from_sharegpt,
    Format.CSV: from_columns,
    Format.OPENAI_CHAT: lambda record: Converted(RowKind.CHAT, dict(record)),
    Format.OPENAI_PREFERENCE: lambda record: Converted(RowKind.PREFERENCE, dict(record)),
    Format.ROWS: lambda record: Converted(kind_like(record) or RowKind.CHAT, dict(record)),
}


def _detected(value: Any) -> Format | None:
    """Return the format that a record looks like."""
    if not isinstance(value, dict):
        return None
    if looks_like_sharegpt(value):
        return Format.SHAREGPT
    match kind_like(value):
        case RowKind.PREFERENCE:
            return Format.OPENAI_PREFERENCE
        case RowKind.CHAT:
            return Format.OPENAI_CHAT
        case RowKind.KTO | RowKind.PROMPTS | RowKind.TEXT:
            return Format.ROWS
        case None:
            return Format.ALPACA if looks_like_alpaca(value) else None


class _Reading:
    """One file in the reading; the first record that can be told decides on format and kind."""

    def __init__(self, known: Format | None, *, file_id: str, limits: RowLimits, errors: Errors) -> None:
        self.format = known
        self.kind: RowKind | None = None
        self._file_id = file_id
        self._limits = limits
        self._errors = errors

    def rows(self, records: Iterable[Record]) -> tuple[NumberedRow, ...]:
        """Return the rows of the records."""
        found: list[NumberedRow] = []
        for record in records:
            row = self._row(record)
            if row is None:
                continue
            if len(found) == self._limits.max_rows:
                self._errors.add(
                    "too_many_rows", 0, "", f"the file holds more than {len(found)} rows; use several files"
                )
                break
            found.append(NumberedRow(record.line, row))
        if not found and not self._errors.count:
            self._errors.add("no_rows", 0, "", "the file holds no rows")
        return tuple(found)

    def _row(self, record: Record) -> Row | None:
        if self.format is None:
            self.format = _detected(record.value)
        if self.format is None:
            self._errors.add("wrong_format", record.line, "", f"the record is of no known format; use {FORMATS}")
            return None
        if not isinstance(record.value, dict):
            self._errors.add("wrong_type", record.line, "", f"{shown(record.value)} is not allowed; use an object")
            return None
        try:
            converted = _CONVERSIONS[self.format](record.value)
        except Unconvertible as error:
            self._errors.add(error.fault.code, record.line, error.fault.field, error.fault.message)
            return None
        self.kind = self.kind or converted.kind
        if converted.kind is not self.kind:
            self._errors.add(
                "mixed_kinds",
                record.line,
                "",
                f"the record is a row of {converted.kind}; the rows before are of {self.kind}",
            )
            return None
        row, faults = parsed(converted.value, converted.kind)
        for fault in faults:
            self._errors.add(fault.code, record.line, converted.fields.get(fault.field, fault.field), fault.message)
        return None if row is None else self._sourced(row, record.line)

    def _sourced(self, row: Row, line: int) -> Row:
        if not self._file_id:
            return row
        sources = (*row.origin.sources, FileSource(self._file_id, line))
        return replace(row, origin=replace(row.origin, sources=sources))
