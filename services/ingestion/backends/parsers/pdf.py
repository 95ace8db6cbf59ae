"""PDF: text page by page with the place of each word; pages without text are read as pictures."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from services.ingestion.backends.parsers.ocr import read_lines
from services.ingestion.backends.parsers.pdf_layout import Block, Headings, Hyphens, Line, running_lines
from services.ingestion.backends.parsers.pdf_page import page_lines
from services.ingestion.backends.parsers.scan import write_scan
from services.ingestion.backends.parsers.source import Source, invalid
from services.ingestion.domain.boxes import PageBoxes, Word
from services.ingestion.domain.draft import one_line

__all__ = ["write"]

# A page with fewer letters and a picture on it is taken for a scan.
_SCAN_LETTERS: Final = 12
# 150 dpi: the small print of a letter is 12 pixels high, enough for the recogniser, and half the time of 200.
_OCR_SCALE: Final = 150 / 72
_OCR_LONGEST_SIDE: Final = 2400
_PASSWORD: Final = 4  # FPDF_ERR_PASSWORD
_MAX_BOOKMARKS: Final = 5000
_MAX_CHARS_A_PAGE: Final = 500_000


def write(source: Source) -> None:
    """Write a PDF file."""
    document = _opened(source)
    pages = _all_lines(source, document)
    headings = Headings(pages, _bookmarks(document))
    hyphens = Hyphens(pages)
    unread: list[int] = []
    for number, lines in enumerate(pages, 1):
        source.draft.page(number)
        if sum(len(line.text) for line in lines) >= _SCAN_LETTERS or not _has_picture(document, number, lines):
            _write_page(source, document, number, headings.blocks(number, lines), hyphens)
        elif not _scan(source, document, number):
            unread.append(number)
    if unread:
        source.draft.warn(
            f"{len(unread)} scanned pages were not read, the first of them page {unread[0]}: "
            f"reading scans took more than {source.limits.ocr_s} s."
        )
    source.title(_title(document, headings))


def _opened(source: Source) -> Any:
    try:
        document = pdfium.PdfDocument(source.data)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
            raise invalid("The file is protected by a password.") from error
        raise invalid("The file is damaged: it is not a complete PDF.") from error
    count = len(document)
    if count > source.limits.max_pages:
        raise invalid(f"The file has {count:,} pages; at most {source.limits.max_pages:,} are read.")
    if count == 0:
        raise invalid("The file has no pages.")
    return document


def _all_lines(source: Source, document: Any) -> list[list[Line]]:
    """Return the lines of every page, without those that only repeat from page to page."""
    pages: list[list[Line]] = []
    letters = 0
    for number in range(1, len(document) + 1):
        lines = _lines(source, document, number)
        letters += sum(len(line.text) for line in lines)
        if letters > source.limits.max_chars:
            raise invalid(f"The file holds more than {source.limits.max_chars:,} characters of text.")
        pages.append(lines)
    dropped = running_lines(pages)
    return [[line for line in lines if line.key not in dropped] for lines in pages]


def _lines(source: Source, document: Any, number: int) -> list[Line]:
    try:
        page = document[number - 1]
    except pdfium.PdfiumError:
        source.draft.warn(f"Page {number} is damaged and was not read.")
        return []
    try:
        return page_lines(page, max_chars=_MAX_CHARS_A_PAGE)
    except pdfium.PdfiumError:
        source.draft.warn(f"The text of page {number} is damaged and was not read.")
        return []
    finally:
        page.close()


def _bookmarks(document: Any) -> dict[int, list[tuple[int, str]]]:
    """Return level and title of the bookmarks by page number."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for number, mark in enumerate(document.get_toc(max_depth=6)):
            if number >= _MAX_BOOKMARKS:
                break
            destination = mark.get_dest()
            index = destination.get_index() if destination is not None else None
            title = one_line(mark.get_title())
            if index is not None and title:
                found.setdefault(index + 1, []).append((mark.level + 1, title))
    except pdfium.PdfiumError:
        # A broken outline costs the headings it would have named, which the font sizes show as well.
        return found
    return found


def _write_page(source: Source, document: Any, number: int, blocks: Iterable[Block], hyphens: Hyphens) -> None:
    draft = source.draft
    words: list[Word] = []
    for block in blocks:
        if block.level:
            title = " ".join(line.text.strip() for line in block.lines)
            at = draft.heading(block.level, title)
            _locate(words, at, one_line(title), [word for line in block.lines for word in line.words])
            continue
        text, places = block.joined(hyphens)
        at = draft.exact(text + "\n\n")
        words.extend((at + start, at + end, *box) for start, end, box in places)
    width, height = _size(document, number)
    draft.boxes(PageBoxes(number, width, height, tuple(words), source.part))


def _locate(words: list[Word], at: int, title: str, places: list[tuple[str, tuple[int, int, int, int]]]) -> None:
    """Keep the places of a heading's words, which stand at `at` in the stored text."""
    cursor = 0
    for word, box in places:
        found = title.find(word, cursor)
        if found < 0:
            continue
        words.append((at + found, at + found + len(word), *box))
        cursor = found + len(word)


def _size(document: Any, number: int) -> tuple[int, int]:
    try:
        width, height = document.get_page_size(number - 1)
    except pdfium.PdfiumError:
        return 0, 0
    return round(width * 10), round(height * 10)


def _has_picture(document: Any, number: int, lines: list[Line]) -> bool:
    try:
        page = document[number - 1]
        # Any object that draws: scans may be pictures or, from faxes, paths, or text that no font explains. Text that was
        # read is no picture.
        objects = page.get_objects(max_depth=3)
        return any(not lines or entry.type != pdfium_c.FPDF_PAGEOBJ_TEXT for entry in objects)
    except pdfium.PdfiumError:
        return False


def _scan(source: Source, document: Any, number: int) -> bool:
    """Read a page as a picture; returns False when the time for that is spent."""

    def read() -> None:
        page = document[number - 1]
        scale = min(_OCR_SCALE, _OCR_LONGEST_SIDE / max(*page.get_size(), 1))
        bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
        pixels = bitmap.to_numpy()[:, :, :3]
        height, width = pixels.shape[:2]
        write_scan(source, number, read_lines(pixels), scale=1 / scale, width=width, height=height)
        bitmap.close()
        page.close()

    try:
        return source.spent.ocr(source.limits, read)
    except pdfium.PdfiumError:
        source.draft.warn(f"Page {number} could not be drawn and was not read.")
        return True


def _title(document: Any, headings: Headings) -> str:
    """Return the title in the file's data when it is one, else the largest heading of its first pages."""
    try:
        title = one_line(document.get_metadata_value("Title"))
    except pdfium.PdfiumError:
        title = ""
    made_by_tools = (
        title.lower().startswith(("microsoft word -", "untitled", "slide 1", "powerpoint")) or "." in title[-5:]
    )
    letters = Counter(unicodedata.category(letter)[0] for letter in title)["L"]
    return title if letters > 2 and not made_by_tools else headings.title
