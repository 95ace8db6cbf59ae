"""Where in the passages a question is answered, as far as words tell: what is shown right before it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rapidfuzz import fuzz

from services.layout.names import names
from services.layout.turns import Passage, Source
from services.layout.words import Token, content, sentences, tokens

NEAREST: Final = 4
"""Neighbourhoods that are read closely: the best by words."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A sentence with its neighbours in a passage, and what stands above it."""

    passage: Passage
    start: int
    end: int
    text: str
    heading: str

    @property
    def in_full(self) -> str:
        """The text under what stands above it."""
        return f"{self.heading.strip()}. {self.text}"

    @property
    def words(self) -> "Neighbourhood":
        """The same without the headings that it begins with, if anything is left then."""
        skipped = len(self.text) - len(_HEADINGS.sub("", self.text))
        return replace(self, start=self.start + skipped, text=self.text[skipped:])

    def source(self, sources: Sequence[Source]) -> Source | None:
        """Return the one of the prompt's sources that holds it, if any: the budget may have cut or dropped its passage."""
        mine = self.passage
        for source in sources:
            other = source.passage
            same = (other.document_id, other.version, other.start) == (mine.document_id, mine.version, mine.start)
            if same and other.text[self.start : self.end] == self.text:
                return source
        return None


_HEADINGS = re.compile(r"^(?:#[^\n]*\n\s*)+(?=\S)")
# Characters of a sentence with its neighbours: an answer and what it is about are seldom further apart, and rows of a
# table or sentences of a contract are long enough by themselves.
_LONGEST = 600
_NAME_WEIGHT = 2.0
_GENERIC_WEIGHT = 0.2
_SAME_WORD = 86.0
_SHORT_WORD = 5


def neighbourhoods(passages: Sequence[Passage]) -> tuple[Neighbourhood, ...]:
    """Return every sentence of the passages with its neighbours."""
    found = []
    for passage in passages:
        pieces = sentences(passage.text)
        heading = " ".join((passage.title, *passage.locator.heading_path, passage.locator.part))
        for index, piece in enumerate(pieces):
            start, end = piece.start, piece.end
            if index and end - pieces[index - 1].start <= _LONGEST:
                start = pieces[index - 1].start
            if index + 1 < len(pieces) and pieces[index + 1].end - start <= _LONGEST:
                end = pieces[index + 1].end
            found.append(Neighbourhood(passage, start, end, passage.text[start:end], heading))
    return tuple(found)


def _weigh(token: Token, named: frozenset[str]) -> float:
    if token.is_generic:
        return _GENERIC_WEIGHT
    return _NAME_WEIGHT if token.norm in named or token.is_number else 1.0


def _has(token: Token, stems: frozenset[str], norms: frozenset[str]) -> bool:
    if token.stem in stems or token.norm in norms:
        return True
    if token.is_number or len(token.norm) < _SHORT_WORD:
        return False
    return any(len(other) >= _SHORT_WORD and fuzz.ratio(token.norm, other) >= _SAME_WORD for other in norms)


def share(words: Sequence[Token], named: frozenset[str], text: str) -> float:
    """Return the weighted share of words that stand in a text, 0 to 1; .5 when none of them weighs anything."""
    have = tokens(text)
    stems, norms = frozenset(token.stem for token in have), frozenset(token.norm for token in have)
    total = sum(_weigh(token, named) for token in words)
    if not total:
        return 0.5
    return sum(_weigh(token, named) for token in words if _has(token, stems, norms)) / total


def question_names(question: str) -> frozenset[str]:
    """Return the names in a question, those that open it included."""
    return frozenset(names(f"about {question}"))


def ranked(question: str, passages: Sequence[Passage]) -> tuple[tuple[float, Neighbourhood], ...]:
    """Return the neighbourhoods by the share of the question's words that they hold, best first."""
    words = content(question)
    named = question_names(question)
    scored = [(share(words, named, f"{place.heading} {place.text}"), place) for place in neighbourhoods(passages)]
    return tuple(sorted(scored, key=lambda item: -item[0]))


def nearest(places: Sequence[Neighbourhood], met: Sequence[float]) -> Neighbourhood:
    """Return the place that meets best what it meets least; the first of equals.

    Args:
        places: The best of `ranked`, at most `NEAREST`; not empty.
        met: How well each of them meets the words of the question that it meets least, as the index says.
    """
    return places[max(range(len(places)), key=lambda index: met[index])]
