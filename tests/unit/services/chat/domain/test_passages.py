"""Inline documents become passages."""

from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.passages import cut
from services.chat.domain.turn import InlineDocument


@given(st.text(max_size=3000))
def test_pieces_of_an_inline_document_are_exact(text: str) -> None:
    for piece in cut(InlineDocument("d", "t", text), 0):
        assert text[piece.start : piece.end] == piece.text
        assert 0 < len(piece.text) <= 900
