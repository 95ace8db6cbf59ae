"""Presentations: one page for each slide, with its notes."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pptx
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.exc import PackageNotFoundError

from services.ingestion.backends.parsers.archive import check_archive
from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["write"]


def write(source: Source) -> None:
    """Write a presentation."""
    check_archive(source)
    try:
        presentation = pptx.Presentation(BytesIO(source.data))
    except (KeyError, ValueError, PackageNotFoundError, zipfile.BadZipFile) as error:
        raise invalid("The file is damaged: it is not a complete presentation.") from error
    slides = presentation.slides
    if len(slides) > source.limits.max_pages:
        raise invalid(f"The presentation has {len(slides):,} slides; at most {source.limits.max_pages:,} are read.")
    source.title(presentation.core_properties.title or "")
    for number, slide in enumerate(slides, 1):
        _slide(source, number, slide)


def _slide(source: Source, number: int, slide: Any) -> None:
    draft = source.draft
    draft.page(number)
    draft.under(1, "")
    title = slide.shapes.title
    if title is not None and title.text_frame.text.strip():
        draft.heading(1, title.text_frame.text)
        source.title(title.text_frame.text)
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_text_frame:
            lines = [("  " * p.level + "- " if p.level else "") + p.text for p in shape.text_frame.paragraphs]
            draft.paragraph("\n".join(line for line in lines if line.strip()))
        elif getattr(shape, "has_table", False):
            draft.table([[cell.text for cell in row.cells] for row in shape.table.rows])
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None and frame.text.strip():
        draft.paragraph("Notes: " + frame.text)


def _shapes(shapes: Any) -> Iterator[Any]:
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            yield from _shapes(shape.shapes)
        else:
            yield shape
