"""The type of a file by its content; the name only decides among kinds of plain text."""

import codecs
import re
import zipfile
from io import BytesIO
from typing import Final

import puremagic

__all__ = [
    "CSV", "DOCX", "EMAIL", "EMPTY", "HTML", "IMAGES", "JSON", "JSON_LINES", "MARKDOWN", "ODS", "OLE", "PDF", "PPTX", "TEXT",
    "UNKNOWN", "XLS", "XLSB", "XLSX", "ZIP", "detect", "looks_like_text", "within_zip",
]  # fmt: skip

PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLSB: Final = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
XLS: Final = "application/vnd.ms-excel"
ODS: Final = "application/vnd.oasis.opendocument.spreadsheet"
OLE: Final = "application/x-ole-storage"
ZIP: Final = "application/zip"
EMAIL: Final = "message/rfc822"
HTML: Final = "text/html"
MARKDOWN: Final = "text/markdown"
CSV: Final = "text/csv"
TEXT: Final = "text/plain"
JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
EMPTY: Final = "application/x-empty"
UNKNOWN: Final = "application/octet-stream"
IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/gif"})

_IMAGE_MARKS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_TEXT_KINDS: Final = {
    "md": MARKDOWN,
    "markdown": MARKDOWN,
    "mdx": MARKDOWN,
    "csv": CSV,
    "tsv": CSV,
    "html": HTML,
    "htm": HTML,
    "xhtml": HTML,
    "json": JSON,
    "jsonl": JSON_LINES,
    "ndjson": JSON_LINES,
    "eml": EMAIL,
}
_HTML_START: Final = re.compile(
    r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_HEADER: Final = re.compile(
    r"^(?:from|to|cc|subject|date|received|return-path|message-id|mime-version|delivered-to|reply-to|x-[\w-]+):\s?\S",
    re.IGNORECASE,
)
_OLE_MARK: Final = bytes.fromhex("d0cf11e0a1b11ae1")
_ODF: Final = "application/vnd.oasis.opendocument."
# The name of the member that makes a ZIP archive an office document.
_OOXML: Final = (
    (b"word/document.xml", DOCX), (b"ppt/presentation.xml", PPTX), (b"xl/workbook.xml", XLSX), (b"xl/workbook.bin", XLSB),
)  # fmt: skip


def detect(head: bytes, *, filename: str) -> str:
    """Return the media type of a file that begins with `head`."""
    if not head:
        return EMPTY
    if b"%PDF-" in head[:1024]:
        return PDF
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return _zip_by_head(head)
    if head.startswith(_OLE_MARK):
        return XLS if any(name.encode("utf-16-le") in head for name in ("Workbook", "Book")) else OLE
    return _image(head) or (_text_kind(head, filename) if looks_like_text(head) else _other(head))


def within_zip(data: bytes) -> str:
    """Return the type of a ZIP archive by its directory, which is the last word about its members.

    Raises:
        zipfile.BadZipFile: It has no readable directory.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = {name.lower() for name in archive.namelist()}
        for mark, media_type in _OOXML:
            if mark.decode() in names:
                return media_type
        if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
            return archive.read("mimetype").decode("ascii", "replace").strip()
    return ZIP


def looks_like_text(data: bytes) -> bool:
    """Return whether bytes read as text: a byte-order mark, or hardly any control characters."""
    head = data[:65536]
    if head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    controls = sum(head.count(bytes([value])) for value in (*range(9), *range(14, 27), *range(28, 32), 127))
    return controls <= len(head) // 200


def _zip_by_head(head: bytes) -> str:
    for mark, media_type in _OOXML:
        if mark in head:
            return media_type
    if head[30:38] == b"mimetype" and _ODF.encode() in head[38:100]:
        end = head.index(_ODF.encode())
        name = re.match(rb"[\w.-]+", head[end + len(_ODF) :])
        return _ODF + (name[0].decode().removesuffix("PK") if name else "")
    return ZIP


def _image(head: bytes) -> str | None:
    for mark, media_type in _IMAGE_MARKS:
        if head.startswith(mark):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    # Two letters are a weak mark: the reserved field of a bitmap's header must be empty too.
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return None


def _text_kind(head: bytes, filename: str) -> str:
    suffix = filename.rpartition(".")[2].lower() if "." in filename else ""
    start = _start(head)
    if _HTML_START.match(start) and suffix not in {"md", "markdown", "mdx"}:
        return HTML
    if suffix in _TEXT_KINDS:
        return _TEXT_KINDS[suffix]
    lines = start.splitlines()[:12]
    if start.startswith("{\\rtf"):
        return "application/rtf"
    if lines and _HEADER.match(lines[0]) and sum(1 for line in lines if _HEADER.match(line)) >= 3:
        return EMAIL
    return TEXT


def _start(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head[:4096].decode("utf-16", "replace")
    return head[:4096].decode("utf-8-sig", "replace")


def _other(head: bytes) -> str:
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    return next((match.mime_type for match in matches if match.mime_type), UNKNOWN)
