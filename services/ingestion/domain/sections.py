"""The sections of a stored text in the form in which they are kept."""

import json
from collections.abc import Sequence

from services.ingestion.domain.text import Locator, Section

__all__ = ["packed_sections", "unpacked_sections"]


def packed_sections(sections: Sequence[Section]) -> bytes:
    """Return sections as JSON: rows of start, end, first page, last page, headings, part."""
    rows = [
        [
            entry.start,
            entry.end,
            entry.locator.page_first,
            entry.locator.page_last,
            entry.locator.heading_path,
            entry.locator.part,
        ]
        for entry in sections
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked_sections(data: bytes) -> tuple[Section, ...]:
    """Return what `packed_sections` packed."""
    return tuple(
        Section(start, end, Locator(page_first, page_last, tuple(headings), part))
        for start, end, page_first, page_last, headings, part in json.loads(data)
    )
