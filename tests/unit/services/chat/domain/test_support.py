"""What counts as an answer, and where in the passages it is looked for."""

import pytest

from services.chat.domain.support import Features, Model, answers, neighbourhoods, question_names, score
from services.chat.domain.turn import Passage

MODEL = Model(weights=(4.0, 1.0, 3.0, 1.0), bias=-6.0, answer=0.2, sure=0.6)


@pytest.mark.parametrize(
    ("question", "statement", "expected"),
    [
        ("Who is Mirela Costin's deputy?", "Mirela Costin is the deputy of Mirela Costin.", False),
        ("Who is Mirela Costin's deputy?", "Mirela Costin's deputy is Jonas Ekdal.", True),
        ("What is Lantern's budget?", "Lantern is led by Dafydd Prosser.", False),
        ("What is Lantern's budget?", "It is 340,000 euros.", True),
        ("When does the pool open?", "The pool opens.", False),
        ("When does the pool open?", "It opens on 3 May at 9:00.", True),
        ("How many desks are there?", "There are many desks in the office.", False),
        ("Where do visitors leave their bags?", "In the blue locker.", True),
        ("Is golf covered?", "Golf is covered.", True),
        ("I travel in May. Is golf covered?", "Golf is covered.", True),
        ("What does E23 mean?", "The memory is full.", True),
    ],
)
def test_an_answer_says_something_new_of_the_kind_that_is_asked_for(
    question: str, statement: str, expected: bool
) -> None:
    assert answers(question, statement) is expected


def test_no_feature_speaks_against_an_answer() -> None:
    low, high = Features(0.2, 0.0, 0.0, 0.0), Features(0.9, 1.0, 1.0, 1.0)
    assert 0 < score(low, MODEL) < score(high, MODEL) < 1


def test_places_are_exact_and_short_enough_to_be_read() -> None:
    text = "One sentence stands here. " + "word " * 150 + "end. " + "Another one. A third one."
    places = neighbourhoods([Passage("doc", 1, 50, 50 + len(text), text)])
    assert len(places) == 4
    assert all(text[place.start : place.end] == place.text for place in places)
    assert [place.text for place in places][-1] == "Another one. A third one."


def test_a_quote_begins_below_the_heading() -> None:
    text = "# Care\n\n## Funnel\nClean the funnel."
    place = neighbourhoods([Passage("doc", 1, 0, len(text), text)])[-1].words
    assert place.text == text[place.start : place.end] == "Clean the funnel."
    only = neighbourhoods([Passage("doc", 1, 0, 6, "# Care")])[0]
    assert only.words == only


def test_the_word_that_opens_a_question_is_no_name() -> None:
    assert question_names("Until when are the talks to end?") == frozenset()
    assert question_names("Osprey is led by whom?") == {"osprey"}
