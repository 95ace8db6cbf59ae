"""Inline documents as passages."""

import hashlib

from services.chat.domain.turn import InlineDocument, Passage
from services.layout.words import content, sentences, tokens

LONGEST_PIECE = 900
"""Most characters of a piece of an inline document: about 220 tokens, what the embedder reads."""


def cut(document: InlineDocument, position: int) -> tuple[Passage, ...]:
    """Cut an inline document into passages at sentence ends; `text` is `document.text[start:end]`.

    A sentence longer than a piece is cut at a space. A document without an id gets `doc:<position>`.
    """
    identity = document.id or f"doc:{position}"
    pieces: list[tuple[int, int]] = []
    for sentence in sentences(document.text):
        start = sentence.start
        while sentence.end - start > LONGEST_PIECE:
            space = document.text.rfind(" ", start + LONGEST_PIECE // 2, start + LONGEST_PIECE)
            middle = space if space > start else start + LONGEST_PIECE
            pieces.append((start, middle))
            start = middle
        pieces.append((start, sentence.end))
    spans: list[tuple[int, int]] = []
    for start, end in pieces:
        if spans and end - spans[-1][0] <= LONGEST_PIECE:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(
        Passage(
            document_id=identity,
            version=0,
            start=start,
            end=end,
            text=document.text[start:end],
            title=document.title,
            data_json=document.data_json,
        )
        for start, end in spans
    )


def word_share(query: str, text: str) -> float:
    """Return the share of the query's content words that stand in the text, 0 to 1."""
    wanted = {token.stem for token in content(query)}
    return len(wanted & {token.stem for token in tokens(text)}) / len(wanted) if wanted else 0.0


def digest(text: str) -> str:
    """Return the SHA-256 of a text, hexadecimal: what a receipt keeps of an inline document."""
    return hashlib.sha256(text.encode()).hexdigest()
