"""Places of words come back as they were kept."""

import pytest

from services.ingestion.domain.boxes import PageBoxes, decode_boxes, encode_boxes, words_between

PAGES = (
    PageBoxes(1, 6120, 7920, ((0, 3, 10, 20, 30, 40), (4, 9, 40, 20, 80, 40))),
    PageBoxes(2, 6120, 7920, ((12, 15, 10, 20, 30, 40),), part="annex.pdf"),
)


def test_what_is_kept_comes_back() -> None:
    assert decode_boxes(encode_boxes(PAGES)) == PAGES
    assert encode_boxes(()) == b""
    assert decode_boxes(b"") == ()


def test_the_words_of_a_quote_are_found_with_their_page() -> None:
    assert [(page.page, word[0]) for page, word in words_between(PAGES, 5, 13)] == [(1, 4), (2, 12)]


def test_a_blob_of_another_make_is_refused() -> None:
    with pytest.raises(ValueError, match="blob"):
        decode_boxes(b"{}")
