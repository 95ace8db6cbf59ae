"""Lines and words of one PDF page, with their places and fonts."""

import ctypes
import statistics
from typing import Any, Final

import pypdfium2.raw as pdfium_c

from services.ingestion.backends.parsers.pdf_layout import Box, Line
from services.ingestion.backends.parsers.source import invalid
from services.ingestion.domain.draft import normalise

__all__ = ["page_lines"]

# PDFium's marks for a hyphen that only breaks a word over two lines.
_HYPHEN_MARKS: Final = frozenset({0x02, 0xFFFE})
_BOLD: Final = 600
# Points; the farther, the less the rounding of a point to whole tenths weighs.
_FAR: Final = 10_000


def page_lines(page: Any, *, max_chars: int) -> list[Line]:
    """Return the lines of a page in reading order.

    Raises:
        Unreadable: It holds more than `max_chars` characters, as only harmful pages do.
    """
    textpage = page.get_textpage()
    handle = textpage.raw
    count = pdfium_c.FPDFText_CountChars(handle)
    if count > max_chars:
        raise invalid(f"A page of the file holds more than {max_chars:,} characters of text.")
    lines: list[Line] = []
    collector = _LineCollector(handle, _View(page))
    for index in range(count):
        code = pdfium_c.FPDFText_GetUnicode(handle, index)
        if code in {0x0A, 0x0D}:
            if line := collector.end():
                lines.append(line)
        else:
            collector.add(index, code)
    if line := collector.end():
        lines.append(line)
    textpage.close()
    return lines


class _View:
    """The page as it is shown, turned and cropped, in tenths of a point from its top left corner."""

    def __init__(self, page: Any) -> None:
        width, self.height = (round(side * 10) for side in page.get_size())
        across, down = ctypes.c_int(), ctypes.c_int()

        def shown(x: float, y: float) -> tuple[int, int]:
            pdfium_c.FPDF_PageToDevice(page.raw, 0, 0, width, self.height, 0, x, y, across, down)
            return across.value, down.value

        # Turning, cropping and scaling are one linear map, which three points tell.
        self._x, self._y = shown(0, 0)
        (ax, ay), (bx, by) = shown(_FAR, 0), shown(0, _FAR)
        self._steps = (ax - self._x) / _FAR, (bx - self._x) / _FAR, (ay - self._y) / _FAR, (by - self._y) / _FAR

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """Return where a rectangle of the page's own coordinates is shown."""
        xx, xy, yx, yy = self._steps
        xs = sorted((self._x + xx * left + xy * bottom, self._x + xx * right + xy * top))
        ys = sorted((self._y + yx * left + yy * bottom, self._y + yx * right + yy * top))
        return round(xs[0]), round(ys[0]), round(xs[1]), round(ys[1])


class _LineCollector:
    """Gathers characters until the line ends."""

    def __init__(self, handle: Any, view: _View) -> None:
        self._handle = handle
        self._view = view
        self._left, self._right = ctypes.c_double(), ctypes.c_double()
        self._bottom, self._top = ctypes.c_double(), ctypes.c_double()
        self._matrix = pdfium_c.FS_MATRIX()
        self._reset()

    def _reset(self) -> None:
        self._words: list[tuple[str, Box]] = []
        self._letters: list[str] = []
        self._box: Box | None = None
        self._sizes: list[float] = []
        self._weights: list[int] = []
        self._hyphen = False

    def add(self, index: int, code: int) -> None:
        """Add a character."""
        if code in _HYPHEN_MARKS:
            self._hyphen = True
            return
        letter = chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        if letter.isspace() or code < 0x20:
            self._end_word()
            return
        self._hyphen = False
        self._letters.append(letter)
        pdfium_c.FPDFText_GetCharBox(self._handle, index, self._left, self._right, self._bottom, self._top)
        box = self._view.box(self._left.value, self._bottom.value, self._right.value, self._top.value)
        old = self._box
        self._box = (
            box if old is None else (min(old[0], box[0]), min(old[1], box[1]), max(old[2], box[2]), max(old[3], box[3]))
        )
        # The first letters of a word tell its font.
        if len(self._letters) <= 2:
            size = pdfium_c.FPDFText_GetFontSize(self._handle, index)
            if pdfium_c.FPDFText_GetMatrix(self._handle, index, self._matrix):
                size *= (self._matrix.c**2 + self._matrix.d**2) ** 0.5
            self._sizes.append(size)
            self._weights.append(pdfium_c.FPDFText_GetFontWeight(self._handle, index))

    def end(self) -> Line | None:
        """Return the line, or None when it holds nothing."""
        self._end_word()
        words, sizes, weights, hyphen = self._words, self._sizes, self._weights, self._hyphen
        self._reset()
        if not words:
            return None
        box = (
            min(word[1][0] for word in words),
            min(word[1][1] for word in words),
            max(word[1][2] for word in words),
            max(word[1][3] for word in words),
        )
        return Line(
            words=tuple(words),
            box=box,
            size=round(statistics.median(sizes), 1),
            bold=sum(weight >= _BOLD for weight in weights) * 2 > len(weights),
            broken=hyphen,
            page_height=self._view.height,
        )

    def _end_word(self) -> None:
        word = normalise("".join(self._letters)).strip()
        if word and self._box is not None:
            self._words.append((word, self._box))
        self._letters = []
        self._box = None
