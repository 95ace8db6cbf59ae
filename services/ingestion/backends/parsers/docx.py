"""Word documents: headings, paragraphs, lists and tables in reading order."""

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import docx
from docx.oxml.ns import qn

from services.ingestion.backends.parsers.archive import check_archive
from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["write"]

_PARAGRAPH: Final = qn("w:p")
_TABLE: Final = qn("w:tbl")
_WRAPPERS: Final = frozenset({qn("w:sdt"), qn("w:sdtContent"), qn("w:customXml"), qn("w:ins"), qn("w:smartTag")})
_FALLBACK: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING: Final = re.compile(r"^heading\s*([1-9])$", re.IGNORECASE)


def write(source: Source) -> None:
    """Write a Word document."""
    check_archive(source)
    try:
        document = docx.Document(BytesIO(source.data))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise invalid("The file is damaged: it is not a complete Word document.") from error
    styles = {style.style_id: style.name or "" for style in document.styles}
    title = document.core_properties.title or ""
    for block in _blocks(document.element.body):
        if block.tag == _TABLE:
            _table(source, block)
        else:
            _paragraph(source, block, styles)
    source.title(title)


def _blocks(container: Any) -> Iterator[Any]:
    for child in container:
        if child.tag in {_PARAGRAPH, _TABLE}:
            yield child
        elif child.tag in _WRAPPERS:
            yield from _blocks(child)


def _paragraph(source: Source, block: Any, styles: dict[str, str]) -> None:
    text = "".join(_words(block)).strip()
    if not text:
        return
    properties = block.find(qn("w:pPr"))
    style_element = properties.find(qn("w:pStyle")) if properties is not None else None
    style = styles.get(style_element.get(qn("w:val")), "") if style_element is not None else ""
    if style == "Title":
        source.title(text)
        source.draft.heading(1, text)
    elif heading := _HEADING.match(style):
        source.draft.heading(min(int(heading[1]) + 1, 6), text)
    elif (properties is not None and properties.find(qn("w:numPr")) is not None) or style.startswith("List"):
        source.draft.exact("")
        source.draft.paragraph("- " + text)
    else:
        source.draft.paragraph(text)


def _words(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag == qn("w:t"):
            yield child.text or ""
        elif child.tag == qn("w:tab"):
            yield "\t"
        elif child.tag in {qn("w:br"), qn("w:cr")}:
            yield "\n"
        elif child.tag == _PARAGRAPH:
            # A text box inside a paragraph.
            yield "\n"
            yield from _words(child)
        elif child.tag != _FALLBACK and child.tag != qn("w:pPr"):
            yield from _words(child)


def _table(source: Source, table: Any) -> None:
    rows = []
    # The rows of a table inside a cell are that cell's text.
    for row in (row for row in table.iter(qn("w:tr")) if next(row.iterancestors(_TABLE)) is table):
        cells = [cell for cell in row if cell.tag in {qn("w:tc"), qn("w:sdt")}]
        rows.append([" ".join("".join(_words(p)) for p in cell.iter(_PARAGRAPH)) for cell in cells])
    if rows and max(map(len, rows)) == 1:
        # A one-column table is a frame around text.
        for row in rows:
            source.draft.paragraph(row[0])
        return
    source.draft.table(rows)
