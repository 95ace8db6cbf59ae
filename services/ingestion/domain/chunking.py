"""Where a stored text is cut. Pure: a tokenizer only says where its tokens start.

The rules, in order of weight: a chunk is an exact stretch of the stored text; it keeps to one page and one part; it
keeps to one section, save that small neighbours under the same heading are put together; a table that fits is whole,
a longer one is cut between rows; then paragraphs, sentences, words.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.ingestion.domain.text import DEFAULT_CHUNKING, EMBEDDER_TOKENS, Chunk, Chunking, Locator, Section

__all__ = ["cut"]

_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_LINE: Final = re.compile(r"\n\s*")
_SENTENCE: Final = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]\s*")
_WORD: Final = re.compile(r"\s+")
_TABLE: Final = re.compile(r"(?:^[ \t]*\|.*\n?)+", re.MULTILINE)
_HEADING_LINE: Final = re.compile(r"\A\s*#{1,6} [^\n]*")
# A cut must leave at least this share of the room used, else a better border is not worth its price.
_LEAST_FILL: Final = 0.4


@dataclass(frozen=True, slots=True)
class _Region:
    """A stretch that is cut by itself."""

    start: int
    end: int
    locator: Locator
    bare: bool
    """Whether it holds nothing but its heading."""


class _Cutter:
    def __init__(self, text: str, token_starts: Sequence[int]) -> None:
        self._text = text
        self._starts = token_starts

    def tokens(self, start: int, end: int) -> int:
        """Return how many tokens start within the stretch."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def trimmed(self, start: int, end: int) -> tuple[int, int]:
        """Return the stretch without the white space at its ends."""
        piece = self._text[start:end]
        return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))

    def windows(self, start: int, end: int, chunking: Chunking) -> Iterator[tuple[int, int]]:
        """Yield overlapping stretches of at most `max_tokens` that cover everything but white space."""
        tables = [(start + m.start(), start + m.end()) for m in _TABLE.finditer(self._text[start:end])]
        at = start
        covered = start
        while True:
            first = bisect_left(self._starts, at)
            beyond = first + chunking.max_tokens
            limit = self._starts[beyond] if beyond < len(self._starts) else end
            if limit >= end:
                stretch = self.trimmed(at, end)
                if stretch[1] > max(stretch[0], covered):
                    yield stretch
                return
            floor = self._starts[min(first + int(chunking.max_tokens * _LEAST_FILL), len(self._starts) - 1)]
            border = self._border(max(floor, covered), limit, at, tables, chunking)
            border = border if border > max(at, covered) else limit
            stretch = self.trimmed(at, border)
            if stretch[1] > stretch[0]:
                yield stretch
            covered = border
            at = self._step_back(at, border, chunking, tables)

    def _border(self, floor: int, limit: int, at: int, tables: list[tuple[int, int]], chunking: Chunking) -> int:
        """Return the best place to cut between `floor` and `limit`."""
        for table_start, table_end in tables:
            if table_start < limit < table_end:
                if table_start > at and self.tokens(table_start, table_end) <= chunking.max_tokens:
                    return table_start
                return self._last(_LINE, max(table_start, at), limit) or limit
        for pattern in (_PARAGRAPH, _LINE, _SENTENCE, _WORD):
            if place := self._last(pattern, floor, limit):
                return place
        return limit

    def _last(self, pattern: re.Pattern[str], floor: int, limit: int) -> int:
        """Return where the last match that ends within the stretch ends; 0 for none."""
        found = 0
        for match in pattern.finditer(self._text, max(floor - 1, 0), limit):
            if floor < match.end() <= limit:
                found = match.end()
        return found

    def _step_back(self, at: int, border: int, chunking: Chunking, tables: list[tuple[int, int]]) -> int:
        """Return where the next window starts so that it shares at most `overlap_tokens` with the last one."""
        last = bisect_left(self._starts, border)
        # At most half of a short window, so that every window brings something new.
        shared = min(chunking.overlap_tokens, self.tokens(at, border) // 2)
        if shared == 0:
            return border
        earliest = max(self._starts[last - shared], at + 1)
        if any(table_start < border < table_end for table_start, table_end in tables):
            patterns: tuple[re.Pattern[str], ...] = (_LINE,)
        elif any(table_end == border for _, table_end in tables):
            return border
        else:
            patterns = (_LINE, _SENTENCE, _WORD)
        for pattern in patterns:
            for match in pattern.finditer(self._text, max(earliest - 1, 0), border):
                if earliest <= match.end() < border:
                    return match.end()
        return border


def cut(text: str, sections: Sequence[Section], token_starts: Sequence[int], chunking: Chunking) -> tuple[Chunk, ...]:
    """Cut a stored text.

    Args:
        text: The stored text.
        sections: Its places, in order.
        token_starts: Where each token of the embedder starts in `text`, ascending.
        chunking: Sizes.

    Returns:
        The chunks in reading order; together they hold every character that is not white space.
    """
    cutter = _Cutter(text, token_starts)
    chunks: list[Chunk] = []
    for region in _regions(text, sections, cutter, chunking):
        for start, end in cutter.windows(region.start, region.end, chunking):
            pieces: Iterable[tuple[int, int]] = [(start, end)]
            if chunking.max_tokens > EMBEDDER_TOKENS:
                pieces = cutter.windows(start, end, DEFAULT_CHUNKING)
            chunks.extend(
                Chunk(
                    index=len(chunks) + number,
                    start=piece_start,
                    end=piece_end,
                    locator=region.locator,
                    passage_start=start,
                    passage_end=end,
                )
                for number, (piece_start, piece_end) in enumerate(pieces)
            )
    return tuple(chunks)


def _regions(text: str, sections: Sequence[Section], cutter: _Cutter, chunking: Chunking) -> Iterator[_Region]:
    """Yield the stretches to cut, small neighbouring sections put together."""
    open_region: _Region | None = None
    for section in sections:
        piece = text[section.start : section.end]
        if not piece.strip():
            continue
        here = _Region(section.start, section.end, section.locator, not _HEADING_LINE.sub("", piece).strip())
        if open_region is None:
            open_region = here
            continue
        joined = _join(open_region, here, cutter, chunking)
        if joined is None:
            yield open_region
            open_region = here
        else:
            open_region = joined
    if open_region is not None:
        yield open_region


def _join(left: _Region, right: _Region, cutter: _Cutter, chunking: Chunking) -> _Region | None:
    """Return both as one region, or None when they are to stay apart."""
    before, after = left.locator, right.locator
    if before.part != after.part or before.page_last != after.page_first:
        return None
    shared = _shared(before.heading_path, after.heading_path)
    if not shared and (before.heading_path or after.heading_path):
        return None
    if cutter.tokens(left.start, right.end) > chunking.max_tokens:
        return None
    small = chunking.max_tokens // 3
    if min(cutter.tokens(left.start, left.end), cutter.tokens(right.start, right.end)) > small:
        return None
    # A heading with nothing under it belongs to what follows.
    path = after.heading_path if left.bare else shared
    locator = Locator(before.page_first, after.page_last, path, before.part)
    return _Region(left.start, right.end, locator, left.bare and right.bare)


def _shared(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    """Return the headings that both stand under."""
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return left[:length]
