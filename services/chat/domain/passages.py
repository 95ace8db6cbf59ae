"""Passages: cutting inline documents, choosing, ordering."""

import hashlib
from collections.abc import Iterable, Sequence

from services.chat.domain.turn import InlineDocument, Passage
from services.chat.domain.words import content, sentences, tokens

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


def best_first(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Return the passages by falling score; the order of equals is that of their documents and offsets."""
    return tuple(sorted(passages, key=lambda passage: (-passage.score, *_place(passage))))


def canonical(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Return the passages in the order of the prompt: by document, then by offset.

    The order does not depend on scores, so that a follow-up which finds the same passages shares the prompt's prefix,
    and neighbouring pieces of one document read as one.
    """
    return tuple(sorted(passages, key=_place))


def _place(passage: Passage) -> tuple[str, int, int, int]:
    return (passage.document_id, passage.version, passage.start, passage.end)


def shortened(passage: Passage, length: int) -> Passage:
    """Return the beginning of a passage, at most `length` characters, cut at a space; offsets stay exact."""
    if length >= len(passage.text):
        return passage
    space = passage.text.rfind(" ", 0, length)
    end = space if space > 0 else length
    return Passage(
        document_id=passage.document_id,
        version=passage.version,
        start=passage.start,
        end=passage.start + end,
        text=passage.text[:end],
        title=passage.title,
        filename=passage.filename,
        collection_id=passage.collection_id,
        file_id=passage.file_id,
        locator=passage.locator,
        score=passage.score,
        similarity=passage.similarity,
        data_json=passage.data_json,
    )


def without_repeats(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Drop passages whose text stands word for word in an earlier one, or that lie inside one."""
    kept: list[Passage] = []
    for passage in passages:
        if not any(
            passage.text.strip() == other.text.strip()
            or (
                (passage.document_id, passage.version) == (other.document_id, other.version)
                and other.start <= passage.start
                and passage.end <= other.end
            )
            for other in kept
        ):
            kept.append(passage)
    return tuple(kept)


def digest(text: str) -> str:
    """Return the SHA-256 of a text, hexadecimal: what a receipt keeps of an inline document."""
    return hashlib.sha256(text.encode()).hexdigest()
