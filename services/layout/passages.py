"""Passages: choosing, ordering, shortening, numbering."""

from collections.abc import Iterable, Sequence

from services.layout.turns import Passage, Source


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


def numbered(passages: Sequence[Passage]) -> tuple[Source, ...]:
    """Number the passages of the prompt from 1."""
    return tuple(Source(number, passage) for number, passage in enumerate(passages, start=1))
