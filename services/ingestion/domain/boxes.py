"""Where words stand on their pages, kept beside the stored text so that a citation can be shown in its page's picture.

The blob is `CBB1` and zlib-compressed JSON: `{"pages": [{"page", "part", "width", "height", "words": [[start, end, x0, y0, x1,
y1], …]}]}`. Places are tenths of a point from the page's top left corner; start and end are offsets in the stored text.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["PageBoxes", "Word", "decode_boxes", "encode_boxes", "words_between"]

_MAGIC: Final = b"CBB1"
Word = tuple[int, int, int, int, int, int]
"""start, end, x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """The words of one page.

    Attributes:
        page: Number, from 1, within its part.
        part: Attachment that the page belongs to; empty for the document itself.
        width: In tenths of a point.
        height: In tenths of a point.
        words: In the order of the stored text.
    """

    page: int
    width: int
    height: int
    words: tuple[Word, ...]
    part: str = ""


def encode_boxes(pages: Iterable[PageBoxes]) -> bytes:
    """Return the blob of `pages`; empty when there are none."""
    rows = [
        {"page": page.page, "part": page.part, "width": page.width, "height": page.height, "words": page.words}
        for page in pages
    ]
    if not rows:
        return b""
    return _MAGIC + zlib.compress(json.dumps({"pages": rows}, separators=(",", ":")).encode())


def decode_boxes(blob: bytes) -> tuple[PageBoxes, ...]:
    """Return the pages of a blob.

    Raises:
        ValueError: The blob is of another make.
    """
    if not blob:
        return ()
    if not blob.startswith(_MAGIC):
        raise ValueError("not a blob of boxes")
    rows = json.loads(zlib.decompress(blob[len(_MAGIC) :]))["pages"]
    return tuple(
        PageBoxes(
            page=row["page"],
            part=row["part"],
            width=row["width"],
            height=row["height"],
            words=tuple((w[0], w[1], w[2], w[3], w[4], w[5]) for w in row["words"]),
        )
        for row in rows
    )


def words_between(pages: Iterable[PageBoxes], start: int, end: int) -> list[tuple[PageBoxes, Word]]:
    """Return the words that touch `text[start:end]`, each with its page."""
    return [(page, word) for page in pages for word in page.words if word[0] < end and word[1] > start]
