"""From lines on pages to headings and paragraphs: what repeats on every page, what is large, what belongs together."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

__all__ = ["Block", "Box", "Headings", "Hyphens", "Line", "running_lines"]

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in tenths of a point from the top left corner."""

_DIGITS: Final = re.compile(r"\d+")
_BULLET: Final = re.compile(r"[•▪●○◦■□–-]|\(?\d{1,3}[.)]|[a-z][.)]$")  # a list's marks
_MARGIN: Final = 0.09
_LARGER: Final = 1.12
_LONGEST_HEADING: Final = 140
_LINES_A_HEADING: Final = 3
_WORDS_A_TITLE: Final = 3


@dataclass(frozen=True)
class Line:
    """A line of a page.

    Attributes:
        words: Each with its box.
        box: Around all of them.
        size: Font size in points.
        bold: Whether most words are bold.
        broken: Whether its last word goes on in the next line.
        page_height: In tenths of a point.
    """

    words: tuple[tuple[str, Box], ...]
    box: Box
    size: float
    bold: bool
    broken: bool
    page_height: int

    @cached_property
    def text(self) -> str:
        """Return the words with single spaces."""
        return " ".join(word for word, _ in self.words)

    @cached_property
    def key(self) -> tuple[str, int] | None:
        """Return what makes the same running line on every page; None outside the margins."""
        margin = self.page_height * _MARGIN
        if self.box[3] <= margin or self.box[1] >= self.page_height - margin:
            return _DIGITS.sub("#", self.text), self.box[1] // 50
        return None


def running_lines(pages: Sequence[Sequence[Line]]) -> set[tuple[str, int] | None]:
    """Return the keys of headers, footers and page numbers: margin lines that stand on most pages."""
    if len(pages) < 4:
        return set()
    counts = Counter(key for lines in pages for key in {line.key for line in lines} if key is not None)
    return {key for key, count in counts.items() if count > len(pages) * 0.4}


@dataclass
class Block:
    """Lines that belong together: a heading (level 1 to 6) or a paragraph (level 0)."""

    level: int
    lines: list[Line] = field(default_factory=list)

    def joined(self, hyphens: "Hyphens") -> tuple[str, list[tuple[int, int, Box]]]:
        """Return the text and the place of each word in it; a word broken over two lines is put together."""
        pieces: list[str] = []
        places: list[tuple[int, int, Box]] = []
        length = 0
        glue = ""
        previous = ""
        broken = False
        for line in self.lines:
            for word, box in line.words:
                if broken:
                    glue = hyphens.between(previous, word)
                if glue:
                    pieces.append(glue)
                    length += len(glue)
                pieces.append(word)
                places.append((length, length + len(word), box))
                length += len(word)
                glue, previous, broken = " ", word, False
            broken = line.broken
        return "".join(pieces), places


class Hyphens:
    """Tells a hyphen that only breaks a word from one that belongs to it, by the words of the whole document.

    Args:
        pages: Lines of all pages.
    """

    def __init__(self, pages: Sequence[Sequence[Line]]) -> None:
        self._words = Counter(
            part for lines in pages for line in lines for word, _ in line.words for part in (_bare(word),) if part
        )

    def between(self, left: str, right: str) -> str:
        """Return what stands between the halves of a word: a hyphen or nothing."""
        first, second = _bare(left), _bare(right)
        together, apart = self._words[first + second], self._words[f"{first}-{second}"]
        if together != apart:
            return "" if together > apart else "-"
        # Never seen whole: two words of their own make a compound.
        halves = self._words[first] > 1 and self._words[second] > 1
        return "-" if halves or not (first.isalpha() and second.isalpha()) else ""


def _bare(word: str) -> str:
    return word.lower().strip(".,;:!?()[]\"'“”‘’")


class Headings:
    """Tells headings from body text by bookmarks, font size and weight, and cuts pages into blocks.

    Args:
        pages: Lines of all pages.
        bookmarks: Level and title by page number.
    """

    def __init__(self, pages: Sequence[Sequence[Line]], bookmarks: Mapping[int, Sequence[tuple[int, str]]]) -> None:
        self._bookmarks = {
            number: {_plain(title): level for level, title in marks} for number, marks in bookmarks.items()
        }
        letters: dict[float, int] = defaultdict(int)
        for lines in pages:
            for line in lines:
                letters[line.size] += len(line.text)
        self._body = max(letters, key=lambda size: letters[size], default=0.0)
        total = sum(letters.values())
        # A size that a third of the text is set in is another body, not a heading.
        sizes = sorted((s for s, n in letters.items() if s >= self._body * _LARGER and n * 3 < total), reverse=True)
        self._levels = {size: min(number, 4) for number, size in enumerate(_distinct(sizes), 1)}
        for size in sizes:
            self._levels.setdefault(size, min(level for s, level in self._levels.items() if s >= size * 0.94))
        self._bold_level = min(max(self._levels.values(), default=0) + 1, 5)
        bold = sum(
            len(line.text) for lines in pages for line in lines if line.bold and line.size <= self._body * _LARGER
        )
        self._bold_counts = bold * 4 < total
        self.title = self._find_title(pages)

    def level(self, number: int, line: Line) -> int:
        """Return the heading level of a line; 0 for body text."""
        text = line.text
        if (marked := self._bookmarks.get(number, {}).get(_plain(text))) is not None:
            return min(marked, 6)
        if len(text) > _LONGEST_HEADING or not any(letter.isalpha() for letter in text):
            return 0
        if size_level := self._levels.get(line.size):
            return size_level
        if (
            line.bold
            and self._bold_counts
            and line.size >= self._body * 0.95
            and len(text) < 90
            and text[-1] not in ".,;:"
        ):
            return self._bold_level
        return 0

    def blocks(self, number: int, lines: Sequence[Line]) -> Iterator[Block]:
        """Yield the headings and paragraphs of page `number`."""
        block: Block | None = None
        gap = _usual_gap(lines)
        for line in lines:
            level = self.level(number, line)
            if block is not None and not _goes_on(block, line, level, gap):
                yield block
                block = None
            if block is None:
                block = Block(level)
            block.lines.append(line)
        if block is not None:
            yield block

    def _find_title(self, pages: Sequence[Sequence[Line]]) -> str:
        for lines in pages[:2]:
            largest = max(
                (line.size for line in lines if self._levels.get(line.size) and len(line.text) > 2), default=0.0
            )
            if largest:
                title = " ".join(line.text for line in lines if line.size == largest)
                if len(title.split()) < _WORDS_A_TITLE:
                    # A company's name above the title proper.
                    rest = [line for line in lines if self._levels.get(line.size) and line.size < largest]
                    following = max((line.size for line in rest), default=0.0)
                    title = " ".join([title, *(line.text for line in rest if line.size == following)])
                return title[:_LONGEST_HEADING]
        return ""


def _goes_on(block: Block, line: Line, level: int, gap: float) -> bool:
    """Return whether `line` belongs to the block before it."""
    last = block.lines[-1]
    if last.broken:
        return True
    distance = line.box[1] - last.box[3]
    height = max(line.box[3] - line.box[1], 1)
    if level or block.level:
        return (
            level == block.level
            and line.size == last.size
            and len(block.lines) < _LINES_A_HEADING
            and -height < distance < height
        )
    if _BULLET.match(line.words[0][0]):
        return False
    # A step up is a new column; a wide gap is a new paragraph.
    return -height * 1.5 < distance <= max(gap * 1.6, gap + height * 0.35)


def _usual_gap(lines: Sequence[Line]) -> float:
    gaps = sorted(b.box[1] - a.box[3] for a, b in pairwise(lines) if b.box[1] > a.box[1])
    return max(gaps[len(gaps) // 3], 0) if gaps else 0.0


def _distinct(sizes: Sequence[float]) -> list[float]:
    """Return descending sizes without those that differ by a rounding."""
    kept: list[float] = []
    for size in sizes:
        if not kept or size < kept[-1] * 0.94:
            kept.append(size)
    return kept


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
