"""What a reader makes of a file: stored text, its places, its chunks, or a failure that a person understands.

Everything here is shared with the sandboxed child process, which must stay free of gRPC; that is why `Unreadable` is
not a member of the chassis' error family: it is an outcome of a document, never the answer to a call.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "DEFAULT_CHUNKING",
    "EMBEDDER_TOKENS",
    "Chunk",
    "Chunking",
    "FailureCode",
    "Locator",
    "ParsedDocument",
    "Section",
    "Unreadable",
]

EMBEDDER_TOKENS: Final = 256
"""Tokens that the embedder reads; longer passages are embedded window by window."""


class FailureCode(StrEnum):
    """Kinds of failure, in the words of the OpenAI vector-store dialect."""

    SERVER_ERROR = "server_error"
    UNSUPPORTED_FILE = "unsupported_file"
    INVALID_FILE = "invalid_file"


class Unreadable(Exception):
    """A file could not be read; final for this version of the document.

    Args:
        code: Kind of failure.
        reason: Sentence for a person: what is wrong with the file, or which limit it went over.
    """

    def __init__(self, code: FailureCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Locator:
    """Where in its source a stretch of text stands.

    Attributes:
        page_first: First page it touches, from 1; 0 when the source has no pages. Slides count as pages.
        page_last: Last page it touches.
        heading_path: Headings above it, outermost first.
        part: Named part of the source: a sheet, an attachment; empty when there is none.
    """

    page_first: int = 0
    page_last: int = 0
    heading_path: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch `text[start:end]` under one page, part and heading. Sections follow each other without gaps."""

    start: int
    end: int
    locator: Locator


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a document is cut, in tokens of the embedder.

    Above `EMBEDDER_TOKENS`, `max_tokens` is the size of the passages that are handed out; chunks are then windows of
    the default size inside them.
    """

    max_tokens: int = 220
    overlap_tokens: int = 40


DEFAULT_CHUNKING: Final = Chunking()
"""What the embedder was trained for: 220 tokens leave room for title and headings within its 256."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the stored text that is embedded and indexed as one; its text is always `text[start:end]`.

    `passage_start:passage_end` is what is handed out when it is found; the same stretch unless the collection asks for
    passages that are longer than the embedder reads.
    """

    index: int
    start: int
    end: int
    locator: Locator
    passage_start: int
    passage_end: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a file holds. All offsets are code points of `text`.

    Attributes:
        title: Title found in the source, else one made of the file's name.
        text: The stored text: the parser's normalised output, in reading order.
        sections: Places of the text by page, part and heading; gapless.
        chunks: Pieces in reading order.
        media_type: Type found by looking at the content.
        warnings: What could not be read, in words; the rest is here.
        boxes: Where words stand on their pages (`services.ingestion.domain.boxes`); empty when the source has no pages.
    """

    title: str
    text: str
    sections: tuple[Section, ...]
    chunks: tuple[Chunk, ...]
    media_type: str
    warnings: tuple[str, ...]
    boxes: bytes
