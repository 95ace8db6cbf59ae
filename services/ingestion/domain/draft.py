"""Normalisation of extracted text, and the draft that parsers write a document into."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.ingestion.domain.boxes import PageBoxes
from services.ingestion.domain.text import FailureCode, Locator, Section, Unreadable

__all__ = ["Draft", "ParsedText", "normalise", "one_line"]

# Characters that reorder or hide text: what a person reads would not be what is indexed and quoted.
_HIDDEN: Final = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_REORDERING: Final = re.compile("[\u202d\u202e\u2066-\u2069]")
# Tag characters (invisible ASCII) carry hidden instructions; they go with the other invisible ones.
_DROPPED: Final = re.compile(f"[{_HIDDEN}\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\U000e0000-\U000e007f]")
_LINE_ENDS: Final = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_SPACES: Final = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING: Final = re.compile(r"[ \t]+(?=\n)|[ \t]+\Z")
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_WHITE: Final = re.compile(r"\s+")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_LONGEST_HEADING: Final = 200
_LONGEST_PATH: Final = 6


def normalise(text: str) -> str:
    """Return `text` in NFC with plain line ends and spaces, without invisible and control characters.

    Running it again changes nothing.
    """
    text = _SURROGATES.sub("\ufffd", text)
    text = _LINE_ENDS.sub("\n", text)
    text = _SPACES.sub(" ", text)
    text = unicodedata.normalize("NFC", _DROPPED.sub("", text))
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))


def one_line(text: str, limit: int = _LONGEST_HEADING) -> str:
    """Return `text` normalised, on one line and no longer than `limit` characters."""
    line = _WHITE.sub(" ", normalise(text)).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def reorders(text: str) -> bool:
    """Return whether `text` holds characters that make it read otherwise than it is written."""
    return _REORDERING.search(text) is not None


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A parser's result before it is cut: the stored text, its places, and what was left out."""

    title: str
    text: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    pages: tuple[PageBoxes, ...]


class Draft:
    """A document being written by a parser, in reading order.

    Args:
        max_chars: Most characters of text; a file that holds more is refused, never cut short in silence.
    """

    def __init__(self, *, max_chars: int) -> None:
        self._max_chars = max_chars
        self._pieces: list[str] = []
        self._length = 0
        self._sections: list[Section] = []
        self._open_start = 0
        self._page = 0
        self._part = ""
        self._path: list[tuple[int, str]] = []
        self._warnings: dict[str, None] = {}
        self._pages: list[PageBoxes] = []
        self.title = ""

    @property
    def length(self) -> int:
        """Characters written so far."""
        return self._length

    @property
    def empty(self) -> bool:
        """Whether nothing that can be read was written."""
        return not any(piece.strip() for piece in self._pieces)

    def warn(self, message: str) -> None:
        """Say once what could not be read; `message` is for a person."""
        if len(self._warnings) < 100:
            self._warnings[one_line(message, 300)] = None

    def page(self, number: int) -> None:
        """Begin page `number`, counted from 1; headings go on over it."""
        self._close()
        self._page = number

    def part(self, name: str) -> None:
        """Begin a named part (a sheet, an attachment) with no headings; an empty name ends it."""
        self._close()
        self._part = one_line(name)
        self._page = 0
        self._path = []

    def under(self, level: int, title: str) -> None:
        """Put what follows under a heading that is not itself written."""
        self._close()
        self._path = [step for step in self._path if step[0] < level][: _LONGEST_PATH - 1]
        if name := one_line(title):
            self._path.append((level, name))

    def heading(self, level: int, title: str) -> int:
        """Write a heading as its own Markdown line and put what follows under it; returns where its words start."""
        name = one_line(title)
        if not name:
            return self._length
        self.under(level, name)
        mark = "#" * min(max(level, 1), 6) + " "
        return self.paragraph(mark + name) + len(mark)

    def paragraph(self, text: str) -> int:
        """Write a block with a blank line after it; returns its first character's place."""
        block = normalise(text).strip("\n")
        if not block.strip():
            return self._length
        return self._write(block + "\n\n")

    def exact(self, text: str) -> int:
        """Write text that is normalised already; returns its first character's place."""
        return self._write(text)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write a table in Markdown; the first row is its header."""
        cells = [[_cell(value) for value in row] for row in rows]
        width = max((len(row) for row in cells), default=0)
        kept = [[*row, *[""] * (width - len(row))] for row in cells if any(row)]
        if not kept or not width:
            return
        lines = [_row(kept[0]), "|" + " --- |" * width, *(_row(row) for row in kept[1:])]
        self._write("\n".join(lines) + "\n\n")

    def boxes(self, page: PageBoxes) -> None:
        """Keep where the words of a page stand."""
        self._pages.append(page)

    def finish(self) -> ParsedText:
        """Return what was written."""
        self._close()
        text = "".join(self._pieces)
        return ParsedText(
            title=one_line(self.title),
            text=text,
            sections=tuple(self._sections),
            warnings=tuple(self._warnings),
            pages=tuple(self._pages),
        )

    def _write(self, text: str) -> int:
        start = self._length
        self._length += len(text)
        if self._length > self._max_chars:
            raise Unreadable(
                FailureCode.INVALID_FILE, f"The file holds more than {self._max_chars:,} characters of text."
            )
        self._pieces.append(text)
        return start

    def _close(self) -> None:
        if self._length > self._open_start:
            path = tuple(name for _, name in self._path)
            locator = Locator(self._page, self._page, path, self._part)
            self._sections.append(Section(self._open_start, self._length, locator))
            self._open_start = self._length


def _cell(value: str) -> str:
    return _WHITE.sub(" ", normalise(value)).strip().replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
