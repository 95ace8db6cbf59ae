"""One parser for each type, and what is said about types that have none."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from services.ingestion.backends import media_types as types
from services.ingestion.backends.parsers import (
    docx,
    email,
    html,
    image,
    markdown,
    pdf,
    plain,
    pptx,
    sheets,
    structured,
    table_text,
)
from services.ingestion.backends.parsers.source import Source, invalid, unsupported

__all__ = ["PARSERS", "write_source"]

PARSERS: Final[Mapping[str, Callable[[Source], None]]] = MappingProxyType(
    {
        types.PDF: pdf.write,
        types.DOCX: docx.write,
        types.PPTX: pptx.write,
        types.XLSX: sheets.write,
        types.XLSB: sheets.write,
        types.XLS: sheets.write,
        types.ODS: sheets.write,
        types.EMAIL: email.write,
        types.HTML: html.write,
        types.MARKDOWN: markdown.write,
        types.TEXT: plain.write,
        types.CSV: table_text.write,
        types.JSON: structured.write,
        types.JSON_LINES: structured.write_lines,
        **dict.fromkeys(types.IMAGES, image.write),
    }
)


def write_source(source: Source) -> str:
    """Find the type of a file by its content and write its text; returns the type.

    Raises:
        Unreadable: It cannot be read.
    """
    if not source.data:
        raise invalid("The file is empty.")
    media_type = types.detect(source.data[:65536], filename=source.filename)
    if media_type in {types.OLE, types.XLS}:
        media_type = _within_ole(source.data)
    if source.data.startswith(b"PK"):
        try:
            media_type = types.within_zip(source.data)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError) as error:
            raise invalid("The file is damaged: its packed content cannot be unpacked.") from error
    parser = PARSERS.get(media_type)
    if parser is None:
        raise _refusal(media_type)
    parser(replace(source, media_type=media_type))
    return media_type


def _within_ole(data: bytes) -> str:
    """Return the type of a compound file by the names of its streams."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise invalid("The file is protected by a password.")
    if "Workbook".encode("utf-16-le") in data:
        return types.XLS
    raise unsupported(
        "The file is of an old Office format (.doc, .ppt, .msg); save it in the present one and try again."
    )


def _refusal(media_type: str) -> Exception:
    if media_type == types.ZIP:
        return unsupported("The file is an archive; upload the files in it one by one.")
    if media_type == types.UNKNOWN:
        return unsupported("The file is of a kind that is not known.")
    return unsupported(f"Files of the kind {media_type} are not read.")
