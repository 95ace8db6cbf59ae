"""CSV and its relatives."""

import contextlib
import csv
import io
from typing import Final

from services.ingestion.backends.parsers.plain import decoded
from services.ingestion.backends.parsers.records import write_rows
from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["write"]

_LONGEST_FIELD: Final = 1_000_000
_SAMPLE: Final = 16_384


def write(source: Source) -> None:
    """Write a file of separated values."""
    text = decoded(source).replace("\0", "")
    csv.field_size_limit(_LONGEST_FIELD)
    dialect: type[csv.Dialect] = csv.excel_tab if source.filename.lower().endswith(".tsv") else csv.excel
    # One column, or too little to tell: the usual separator.
    with contextlib.suppress(csv.Error):
        dialect = csv.Sniffer().sniff(text[:_SAMPLE], delimiters=",;\t|")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), dialect))
    except csv.Error as error:
        raise invalid(
            "The file is not a table of separated values: a field is longer than a million characters."
        ) from error
    write_rows(source, rows)
