"""What is cited, what is not, and that quotes and spans are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.citations import Thresholds, candidates, decide, parts, read, segments
from services.chat.domain.turn import Citation, Locator, Passage, Source

TEXT = (
    "PerksPlus covers up to $1,000 per year for gym memberships and yoga classes. Video games are not covered. "
    "Employees must submit receipts within 30 days.\n\n"
    "Project Falcon began on 3 May 2024. Maria Lopez leads Project Falcon and reports to John Smith. "
    "In-network visits cost 20 dollars. The fee increases every year in spring.\n"
)
START = 100


def source(text: str = TEXT, *, title: str = "Benefits", number: int = 1) -> Source:
    return Source(number, Passage("doc", 1, START, START + len(text), text, title=title, locator=Locator(2, 2)))


def cite(statement: str, *sources: Source, question: str = "", near: float = 0.0) -> list[Citation]:
    """Cite with a similarity of `near` for whatever is in doubt."""
    windows = read(sources or (source(),))
    found = []
    for stretch in segments(statement):
        pairs = candidates(stretch, windows, question=question, thresholds=Thresholds())
        similarity = {(one.stretch.text, one.window.text): near for one in pairs}
        citation = decide(pairs, similarity, thresholds=Thresholds())
        found += [citation] if citation else []
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "PerksPlus covers up to $1000 per year for gym memberships.",
        "PerksPlus covers gym memberships up to 1,000 dollars per year.",
        "Receipts must be submitted within thirty days.",
        "Video games are not covered.",
        "Project Falcon began on May 3, 2024.",
        "Project Falcon is led by Maria Lopez.",
    ],
)
def test_what_a_source_says_in_other_words_is_cited(statement: str) -> None:
    (citation,) = cite(statement)
    assert citation.text == statement


@pytest.mark.parametrize(
    "statement",
    [
        "PerksPlus covers up to $2,000 per year for gym memberships and yoga classes.",
        "Video games are covered.",
        "Employees must submit receipts within 30 months.",
        "Employees must submit receipts within 60 days.",
        "Employees need not submit receipts within 30 days.",
        "Project Falcon began on 3 June 2024.",
        "Project Falcon began on 3 May 2023.",
        "Peter Jones leads Project Falcon.",
        "John Smith reports to Maria Lopez.",
        "Maria Lopez leads Project Eagle.",
        "Out-of-network visits cost 20 dollars.",
        "The fee decreases every year in spring.",
        "PerksPlus covers up to $1,000 per year for gym memberships and cooking classes.",
        "The moon is made of green cheese.",
    ],
)
def test_what_no_source_says_is_not_cited_however_near_it_sounds(statement: str) -> None:
    assert cite(statement, near=0.99) == []


def test_a_doubtful_stretch_needs_a_near_meaning() -> None:
    statement = "Employees must hand in their receipts to the office within 30 days."
    assert cite(statement, near=0.1) == []
    assert cite(statement, near=0.9)


def test_a_short_answer_is_cited_only_where_the_question_is_spoken_of() -> None:
    (citation,) = cite("30 days.", question="When must employees submit receipts?")
    assert "receipts" in citation.evidence[0].quote
    assert cite("30 days.", question="How long does a laptop repair take?") == []


def test_the_title_says_what_a_sentence_is_about() -> None:
    told = source("It costs 5 dollars a month.", title="Falcon plan")
    assert cite("The Falcon plan costs 5 dollars a month.", told)
    assert cite("The Eagle plan costs 5 dollars a month.", told, near=0.99) == []


def test_evidence_comes_from_every_source_that_says_it() -> None:
    other = source("Intro. Employees must submit receipts within 30 days.", title="Other", number=2)
    (citation,) = cite("Employees must submit receipts within 30 days.", source(), other)
    assert {evidence.source_number for evidence in citation.evidence} == {1, 2}


def test_clauses_may_be_cited_by_themselves() -> None:
    (whole,) = segments("Employees must submit receipts within 30 days, and the moon is made of green cheese.")
    first, second = parts(whole)
    assert first.text == "Employees must submit receipts within 30 days"
    assert whole.text[first.start : first.end] == first.text
    assert second.text.endswith("cheese.")


sentence = st.sampled_from([one.text for one in segments(TEXT)]) | st.text(max_size=40)


@given(st.lists(sentence, max_size=6).map(" ".join), st.lists(sentence, min_size=1, max_size=6).map("\n".join))
def test_spans_equal_their_text_and_quotes_stand_in_the_source(answer: str, text: str) -> None:
    for citation in cite(answer, source(text), near=1.0):
        assert answer[citation.start : citation.end] == citation.text
        for evidence in citation.evidence:
            assert text[evidence.start - START : evidence.end - START] == evidence.quote
            assert evidence.quote.strip()
            assert 0 <= evidence.score <= 1


def test_two_rows_of_a_table_support_nothing_together() -> None:
    table = source("| F3 | senior engineer | 60500 | 78000 |\n| F4 | principal engineer | 76000 | 95000 |\n")
    assert cite("A senior engineer earns 78000 at most.", table, near=0.9)
    assert not cite("A senior engineer earns 95000 at most.", table, near=0.9)


def test_a_copy_about_something_else_is_not_supported() -> None:
    gate = source("Deliveries are taken at gate B, from 6:30 to 14:00.", title="Visitors")
    assert cite("Deliveries are taken at gate B, from 6:30 to 14:00.", gate, near=0.9)
    assert not cite("The luggage is taken at the gate B, from 6:30 to 14:00.", gate, near=0.9)
    plan = source("The release is due on 14 September in Graz.", title="Project Osprey")
    assert cite("Osprey is due on 14 September in Graz.", plan, near=0.9)
