"""Spreadsheets (XLSX, XLSB, XLS, ODS): each sheet is a part."""

import datetime as dt
from io import BytesIO
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, ZipError

from services.ingestion.backends.media_types import XLS
from services.ingestion.backends.parsers.archive import check_archive
from services.ingestion.backends.parsers.records import write_rows
from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["write"]


def write(source: Source) -> None:
    """Write a workbook's sheets."""
    if source.media_type != XLS:
        check_archive(source)
    try:
        workbook = CalamineWorkbook.from_filelike(BytesIO(source.data))
    except (CalamineError, ZipError, ValueError, OSError) as error:
        if "password" in str(error).lower():
            raise invalid("The file is protected by a password.") from error
        raise invalid("The file is damaged: it is not a complete workbook.") from error
    for sheet in workbook.sheets_metadata:
        if sheet.typ is not SheetTypeEnum.WorkSheet:
            continue
        try:
            rows = workbook.get_sheet_by_name(sheet.name).to_python(skip_empty_area=True)
        except (CalamineError, ValueError) as error:
            source.draft.warn(f"The sheet {sheet.name!r} could not be read: {type(error).__name__}.")
            continue
        source.draft.part(f"{source.part} / {sheet.name}" if source.part else sheet.name)
        write_rows(source, [[_cell(value) for value in row] for row in rows])
    source.draft.part(source.part)


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return str(int(value)) if value.is_integer() else f"{value:.10g}"
        case dt.datetime():
            midnight = value.time() == dt.time()
            return value.date().isoformat() if midnight else value.isoformat(sep=" ", timespec="minutes")
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return str(value)
