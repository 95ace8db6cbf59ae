"""Words, stems and sentences of a text, each with its exact offsets.

One analyser serves citations, abstention and query rewriting, so that they mean the same by "the same word".
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

from services.layout.lexicon import GENERIC_WORDS, STOP_WORDS

_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][^\W_]+)?")
_POSSESSIVE = re.compile(r"['’]s$")


@dataclass(frozen=True, slots=True)
class Token:
    """One word or number: `text` is `source[start:end]`, `norm` its case-folded form, `stem` what is compared."""

    text: str
    norm: str
    stem: str
    start: int
    end: int

    @property
    def is_number(self) -> bool:
        """Whether it begins with a digit."""
        return self.text[0].isdigit()

    @property
    def is_content(self) -> bool:
        """Whether it says what the text is about."""
        return self.norm not in STOP_WORDS and (len(self.norm) > 1 or self.is_number)

    @property
    def is_generic(self) -> bool:
        """Whether it could stand in any answer."""
        return self.norm in GENERIC_WORDS or self.stem in _generic_stems()


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a text: `text` is `source[start:end]`."""

    start: int
    end: int
    text: str


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    # Made at first use: nothing happens at import, and one stemmer serves the process (its calls hold the GIL).
    return Stemmer.Stemmer("english")


@lru_cache(maxsize=50_000)
def stem(norm: str) -> str:
    """Return the Snowball stem of a case-folded word."""
    result: str = _stemmer().stemWord(norm)
    return result


@lru_cache(maxsize=1)
def _generic_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in GENERIC_WORDS)


def normalise(text: str) -> str:
    """Return a word as it is compared: compatibility form, case-folded, without a possessive."""
    return _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).casefold()).replace("’", "'")


def tokens(text: str) -> tuple[Token, ...]:
    """Return the words and numbers of a text in order."""
    found = []
    for match in _TOKEN.finditer(text):
        norm = normalise(match.group())
        if not norm:
            continue
        word = norm.replace(",", "") if match.group()[0].isdigit() else norm
        found.append(Token(match.group(), word, stem(word), match.start(), match.end()))
    return tuple(found)


def content(text: str) -> tuple[Token, ...]:
    """Return the words and numbers that say what a text is about."""
    return tuple(token for token in tokens(text) if token.is_content)


# A full stop after one of these, or after a single capital, ends no sentence.
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|no|nos|inc|ltd|co|corp|dept|approx|fig|sec|art|p|pp|vol|al|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)|\b[A-Z])\.$",
    re.IGNORECASE,
)
_INITIAL = re.compile(r"\b[A-Z]\.$")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]")
_BLOCK_START = re.compile(r"\s*(?:[-*•‣▪●○◦–]\s|\d{1,3}[.)]\s|[a-z][.)]\s|#{1,6}\s|\||>|[^\w\s\"'(\[“‘$€£&@]\s)")
_HEADING_END = re.compile(r"[.!?:;,]\s*$")
# A line shorter than this that ends without a stop and is followed by a capital is a heading or a table row, not
# prose that the page's width broke.
_SHORT_LINE = 60


def _lines(text: str) -> list[Stretch]:
    """Split into blocks: prose lines that a page's width broke stay together, list items and rows stand alone."""
    blocks: list[Stretch] = []
    start = end = 0
    position = 0
    previous = ""
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        breaks = (
            not bare
            or not previous
            or bool(_BLOCK_START.match(line))
            or previous.startswith(("|", "#"))
            or (len(previous) < _SHORT_LINE and not _HEADING_END.search(previous) and not bare[0].islower())
        )
        if breaks and end > start:
            blocks.append(Stretch(start, end, text[start:end]))
            start = position
        elif breaks:
            start = position
        position += len(line)
        end = position
        previous = bare
    if end > start:
        blocks.append(Stretch(start, end, text[start:end]))
    return blocks


def _trim(text: str, start: int, end: int) -> Stretch | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Stretch(start, end, text[start:end]) if end > start else None


def sentences(text: str) -> tuple[Stretch, ...]:
    """Return the sentences, list items, headings and table rows of a text, trimmed, in order, without overlap."""
    found: list[Stretch] = []
    for block in _lines(text):
        start = block.start
        for match in _END.finditer(block.text):
            end = block.start + match.end()
            head = text[start:end]
            following = text[end : end + 2].strip()
            if match.group() == "." and (_INITIAL.search(head) or (_ABBREVIATION.search(head) and following)):
                continue
            if re.fullmatch(r"\s*(?:\d{1,3}|[a-zA-Z])[.)]", head):
                continue  # the number of a list item
            piece = _trim(text, start, end)
            if piece:
                found.append(piece)
            start = end
        piece = _trim(text, start, block.end)
        if piece:
            found.append(piece)
    return tuple(found)


_CLAUSE_END = re.compile(
    r";\s+|,\s+(?=(?:and|but|while|whereas|which|although|though|however)\b)|\s[–—-]\s", re.IGNORECASE
)


def clauses(stretch: Stretch) -> tuple[Stretch, ...]:
    """Split a sentence at semicolons, dashes and joined main clauses; the pieces keep their offsets."""
    pieces: list[Stretch] = []
    start = 0
    for match in _CLAUSE_END.finditer(stretch.text):
        piece = _trim(stretch.text, start, match.start())
        if piece:
            pieces.append(Stretch(stretch.start + piece.start, stretch.start + piece.end, piece.text))
        start = match.end()
    piece = _trim(stretch.text, start, len(stretch.text))
    if piece:
        pieces.append(Stretch(stretch.start + piece.start, stretch.start + piece.end, piece.text))
    return tuple(pieces)
