"""Plain text, and the decoding of every kind of text."""

import codecs

from services.ingestion.backends.parsers.source import Source, unsupported
from services.ingestion.domain.draft import reorders

__all__ = ["decode", "decoded", "write"]


def write(source: Source) -> None:
    """Write a plain text; its paragraphs are its blank lines."""
    text = decoded(source)
    source.draft.paragraph(text)


def decoded(source: Source) -> str:
    """Return the text of a file; says what had to be guessed.

    Raises:
        Unreadable: The bytes are no text.
    """
    text, guessed = decode(source.data)
    if guessed:
        source.draft.warn("The text is not UTF-8; it was read as Windows-1252, so some letters may be wrong.")
    if text.count("\0") > len(text) // 100:
        raise unsupported("The file holds binary data, not text.")
    if "\0" in text:
        source.draft.warn("Null characters were left out.")
    if reorders(text):
        source.draft.warn(
            "Characters that reverse the reading direction were left out: they can hide what a text says."
        )
    return text


def decode(data: bytes) -> tuple[str, bool]:
    """Return the text of `data` and whether its encoding had to be guessed."""
    for mark, encoding in (
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (codecs.BOM_UTF8, "utf-8-sig"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), False
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), True
