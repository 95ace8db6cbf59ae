"""Documents that rows are made of, as far as the caller may read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.layout.turns import Locator
from services.layout.words import sentences

LONGEST_CHUNK: Final = 900
"""Most characters of a chunk: about what the index hands out as one passage."""


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document in the version that is searchable."""

    document_id: str
    version: int
    collection_id: str
    title: str
    filename: str = ""
    key: str = ""

    def is_called(self, name: str) -> bool:
        """Whether a name means it: its id, its key, its file's name or the end of its key."""
        return name in {self.document_id, self.key, self.filename} or self.key.endswith(f"/{name}")


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a stored text under one page and heading."""

    start: int
    end: int
    locator: Locator


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The stored text of a document; offsets count its code points."""

    document: SourceDocument
    text: str
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document that is read by itself: `text` is `stored_text[start:end]`."""

    document: SourceDocument
    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        """What it is about: its innermost heading with the title before it, unless one says the other."""
        title = self.document.title.strip()
        heading = self.headings[-1].strip() if self.headings else ""
        if not heading or heading.casefold() in title.casefold():
            return title
        return heading if not title or title.casefold() in heading.casefold() else f"{title}, {heading}"


def chunks(document: DocumentText, *, longest: int = LONGEST_CHUNK) -> tuple[Chunk, ...]:
    """Cut a document at its headings, and what is longer at the ends of sentences."""
    found = []
    for start, end, headings in _regions(document):
        for piece_start, piece_end in _pieces(document.text, start, end, longest):
            text = document.text[piece_start:piece_end]
            found.append(Chunk(document.document, piece_start, piece_end, text, headings))
    return tuple(found)


def _regions(document: DocumentText) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the stretches under one heading; neighbours under the same one are one."""
    sections = document.sections or (Section(0, len(document.text), Locator()),)
    start, end, headings = sections[0].start, sections[0].end, sections[0].locator.heading_path
    for section in sections[1:]:
        if section.locator.heading_path == headings:
            end = section.end
        else:
            yield start, end, headings
            start, end, headings = section.start, section.end, section.locator.heading_path
    yield start, end, headings


def _pieces(text: str, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    first = last = -1
    for sentence in sentences(text[start:end]):
        begin, stop = start + sentence.start, start + sentence.end
        if first >= 0 and stop - first > longest:
            yield first, last
            first = -1
        while stop - begin > longest:
            space = text.rfind(" ", begin + longest // 2, begin + longest)
            middle = space if space > 0 else begin + longest
            yield begin, middle
            begin = middle
        if first < 0:
            first = begin
        last = stop
    if first >= 0:
        yield first, last
