"""Chunks are exact stretches of the stored text, within their bounds, whole where a reader needs them whole."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.domain.chunking import cut
from services.ingestion.domain.draft import Draft, ParsedText, normalise
from services.ingestion.domain.text import Chunk, Chunking


def token_starts(text: str) -> list[int]:
    """A word is a token here."""
    return [match.start() for match in re.finditer(r"\w+|[^\w\s]", text)]


def tokens(text: str) -> int:
    return len(token_starts(text))


def chunks_of(parsed: ParsedText, max_tokens: int = 20, overlap: int = 5) -> list[Chunk]:
    chunking = Chunking(max_tokens=max_tokens, overlap_tokens=overlap)
    return list(cut(parsed.text, parsed.sections, token_starts(parsed.text), chunking))


WORDS = st.text(alphabet="abc é😀.!?|\n\t-#", min_size=1, max_size=120)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("heading"), st.integers(1, 4), WORDS),
        st.tuples(st.just("paragraph"), WORDS),
        st.tuples(st.just("page"), st.integers(1, 9)),
        st.tuples(st.just("part"), WORDS),
        st.tuples(st.just("table"), st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=6)),
    ),
    max_size=25,
)


def drafted(steps: list[tuple[object, ...]]) -> ParsedText:
    draft = Draft(max_chars=10**6)
    for name, *arguments in steps:
        getattr(draft, str(name))(*arguments)
    return draft.finish()


@given(STEPS, st.integers(8, 60), st.integers(0, 4))
def test_chunks_hold_the_whole_text_within_their_bounds(
    steps: list[tuple[object, ...]], size: int, overlap: int
) -> None:
    parsed = drafted(steps)
    chunks = chunks_of(parsed, size, min(overlap, size // 2))
    covered: set[int] = set()
    for number, chunk in enumerate(chunks):
        piece = parsed.text[chunk.start : chunk.end]
        assert chunk.index == number
        assert piece == piece.strip() != ""
        assert tokens(piece) <= size
        assert (chunk.passage_start, chunk.passage_end) == (chunk.start, chunk.end)
        covered.update(range(chunk.start, chunk.end))
    assert all(parsed.text[place].isspace() for place in set(range(len(parsed.text))) - covered)
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)


@given(STEPS)
def test_sections_follow_each_other_without_gaps(steps: list[tuple[object, ...]]) -> None:
    parsed = drafted(steps)
    borders = [0, *(section.end for section in parsed.sections)]
    assert [section.start for section in parsed.sections] == borders[:-1]
    assert borders[-1] == len(parsed.text)


@given(st.text(max_size=300))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_no_chunk_straddles_pages_or_parts_or_unrelated_headings() -> None:
    draft = Draft(max_chars=10**6)
    for page in (1, 2):
        draft.page(page)
        draft.heading(1, f"Chapter {page}")
        draft.paragraph("A short line.")
    draft.part("appendix")
    draft.paragraph("Another short line.")
    places = [(c.locator.page_first, c.locator.page_last, c.locator.part) for c in chunks_of(draft.finish(), 200)]
    assert places == [(1, 1, ""), (2, 2, ""), (0, 0, "appendix")]


def test_small_sections_under_one_heading_are_put_together() -> None:
    draft = Draft(max_chars=10**6)
    draft.heading(1, "Offices")
    for city in ("Oslo", "Bergen", "Tromsø"):
        draft.heading(2, city)
        draft.paragraph(f"The office in {city} is open.")
    [chunk] = chunks_of(draft.finish(), 100)
    assert chunk.locator.heading_path == ("Offices",)


def test_a_heading_without_text_goes_with_what_follows_and_takes_its_place() -> None:
    draft = Draft(max_chars=10**6)
    draft.heading(1, "Offices")
    draft.heading(2, "Oslo")
    draft.paragraph("The office is open.")
    [chunk] = chunks_of(draft.finish(), 100)
    assert chunk.locator.heading_path == ("Offices", "Oslo")


def test_a_table_that_fits_is_whole() -> None:
    draft = Draft(max_chars=10**6)
    draft.paragraph("Before the table stands a sentence of some length.")
    draft.table([["city", "price"], ["Oslo", "7"], ["Bergen", "8"]])
    parsed = draft.finish()
    tables = [c for c in chunks_of(parsed, 40) if "| Bergen" in parsed.text[c.start : c.end]]
    assert any("| city | price |" in parsed.text[c.start : c.end] for c in tables)


def test_a_long_table_is_cut_between_rows() -> None:
    draft = Draft(max_chars=10**6)
    draft.table([["city", "price"], *[[f"city {number}", str(number)] for number in range(40)]])
    parsed = draft.finish()
    chunks = chunks_of(parsed, 60, 10)
    assert len(chunks) > 2
    for chunk in chunks:
        lines = parsed.text[chunk.start : chunk.end].split("\n")
        assert all(line.startswith("|") and line.endswith("|") for line in lines)


def test_neighbours_share_the_end_of_a_sentence() -> None:
    draft = Draft(max_chars=10**6)
    draft.paragraph(" ".join(f"Sentence {number} is short." for number in range(30)))
    parsed = draft.finish()
    chunks = chunks_of(parsed, 30, 10)
    for left, right in pairwise(chunks):
        assert left.start < right.start <= left.end
        assert 0 < tokens(parsed.text[right.start : left.end]) <= 10
        assert parsed.text[right.start :].startswith("Sentence")


def test_long_passages_are_embedded_in_windows() -> None:
    draft = Draft(max_chars=10**6)
    draft.paragraph(" ".join(f"Sentence {number} is short." for number in range(400)))
    parsed = draft.finish()
    chunks = chunks_of(parsed, 800, 100)
    assert len({(c.passage_start, c.passage_end) for c in chunks}) < len(chunks)
    for chunk in chunks:
        assert chunk.passage_start <= chunk.start < chunk.end <= chunk.passage_end
        assert tokens(parsed.text[chunk.start : chunk.end]) <= 220
        assert tokens(parsed.text[chunk.passage_start : chunk.passage_end]) <= 800


@pytest.mark.parametrize("text", ["", " \n\n "])
def test_nothing_gives_no_chunks(text: str) -> None:
    assert cut(text, (), token_starts(text), Chunking()) == ()
