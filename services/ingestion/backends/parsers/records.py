"""Rows with named columns, as sheets, CSV files and lists of JSON objects have them."""

from collections.abc import Sequence
from typing import Final

from services.ingestion.backends.parsers.source import Source
from services.ingestion.domain.draft import one_line

__all__ = ["write_rows"]

# About as many characters as one chunk holds: such a table is found, cut and read as a whole.
_WHOLE_TABLE: Final = 700


def write_rows(source: Source, rows: Sequence[Sequence[str]]) -> None:
    """Write rows, the first of which with more than one value names the columns.

    A small table stays a table. In a longer one every row says the name of its columns, so that a row makes sense
    wherever the text is cut.
    """
    # Nothing is cut short in silence: a text that is too long is refused as a whole.
    longest = source.limits.max_chars
    kept = [cells for row in rows if any(cells := [one_line(cell, longest) for cell in row])]
    while kept and sum(map(bool, kept[0])) == 1 and len(kept) > 1 and sum(map(bool, kept[1])) != 1:
        # A lonely cell above the table is its caption.
        source.draft.paragraph(next(filter(None, kept.pop(0))))
    if not kept:
        return
    used = [index for index in range(max(map(len, kept))) if any(index < len(row) and row[index] for row in kept)]
    kept = [[row[index] if index < len(row) else "" for index in used] for row in kept]
    if len(used) == 1:
        source.draft.paragraph("\n".join(row[0] for row in kept if row[0]))
    elif len(kept) == 1 or sum(len(cell) + 3 for row in kept for cell in row) <= _WHOLE_TABLE:
        source.draft.table(kept)
    else:
        names = [name or f"column {index + 1}" for index, name in enumerate(kept[0])]
        for row in kept[1:]:
            line = "; ".join(f"{name}: {cell}" for name, cell in zip(names, row, strict=True) if cell)
            source.draft.exact(line + "\n" if line else "")
        source.draft.exact("\n")
