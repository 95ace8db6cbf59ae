import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.domain import Analyser

ANALYSER = Analyser()


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Policies are renewed yearly", "renewing a policy"),
        ("see POL-12 for details", "pol-12"),
        ("see POL-12 for details", "POL 12"),
        ("your 401(k) plan", "401(K)"),
        ("version v1.2.3", "v1.2.3"),
        ("R&D budget", "r&d"),
        ("Café Zürich", "cafe zurich"),
        ("the employee\u2019s badge", "employee badges"),
        ("ﬁnance", "finance"),
    ],
)
def test_a_query_shares_its_tokens_with_the_text_that_it_means(text: str, query: str) -> None:
    assert set(ANALYSER.search_text(query).split()) <= set(ANALYSER.search_text(text).split())


def test_function_words_are_dropped_and_numbers_kept() -> None:
    assert ANALYSER.search_text("What is the price of 42 units in 2024?") == "price 42 unit 2024"


def test_words_lead_to_their_tokens() -> None:
    assert ANALYSER.words("Which policies?") == {"policies": frozenset({"polici"})}


@given(st.text(max_size=300))
def test_any_text_becomes_tokens_that_white_space_splits(text: str) -> None:
    written = ANALYSER.search_text(text)
    assert " ".join(written.split()) == written
    assert all(len(token) <= 64 for token in written.split())
