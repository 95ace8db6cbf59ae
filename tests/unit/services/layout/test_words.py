"""Sentences keep their offsets and follow how people write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.layout.words import sentences


@given(st.text(alphabet=st.sampled_from("ab A.!? \n-|#1\u2028é") | st.characters(), max_size=200))
def test_sentences_are_exact_ordered_and_lose_no_word(text: str) -> None:
    end = 0
    for piece in sentences(text):
        assert text[piece.start : piece.end] == piece.text
        assert piece.start >= end
        assert piece.text == piece.text.strip()
        assert not text[end : piece.start].strip()
        end = piece.end
    assert not text[end:].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $5.50 a day. Ask Dr. Meyer.", ["It costs $5.50 a day.", "Ask Dr. Meyer."]),
        ("Leave is\ngranted by the manager\nof the team.", ["Leave is\ngranted by the manager\nof the team."]),
        ("# Travel\n- Fly economy\n- Book early", ["# Travel", "- Fly economy", "- Book early"]),
        ("| a | b |\n| 1 | 2 |", ["| a | b |", "| 1 | 2 |"]),
    ],
)
def test_sentences_end_where_people_end_them(text: str, expected: list[str]) -> None:
    assert [piece.text for piece in sentences(text)] == expected
