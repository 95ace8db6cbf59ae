"""Writes the lines of a scan as paragraphs, with the place of each line."""

from collections.abc import Sequence
from typing import Final

from services.ingestion.backends.parsers.ocr import Line
from services.ingestion.backends.parsers.source import Source
from services.ingestion.domain.boxes import PageBoxes, Word
from services.ingestion.domain.draft import one_line

__all__ = ["write_scan"]

# A gap wider than this share of a line's height ends the paragraph.
_PARAGRAPH_GAP: Final = 0.9


def write_scan(
    source: Source, number: int, lines: Sequence[Line], *, scale: float, width: float, height: float
) -> None:
    """Write lines read on page `number`.

    Args:
        source: Where it goes.
        number: Page.
        lines: In reading order.
        scale: Points for each pixel.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
    """
    words: list[Word] = []
    below: Line | None = None
    unit = scale * 10
    for line in lines:
        text = one_line(line.text, 10_000)
        if not text:
            continue
        new_paragraph = below is not None and line.y0 - below.y1 > _PARAGRAPH_GAP * (line.y1 - line.y0)
        if below is not None:
            source.draft.exact("\n\n" if new_paragraph else "\n")
        start = source.draft.exact(text)
        place = (round(line.x0 * unit), round(line.y0 * unit), round(line.x1 * unit), round(line.y1 * unit))
        words.append((start, start + len(text), *place))
        below = line
    if below is not None:
        source.draft.exact("\n\n")
    source.draft.boxes(PageBoxes(number, round(width * unit), round(height * unit), tuple(words), source.part))
