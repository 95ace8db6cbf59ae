"""What counts as an answer."""

import pytest

from services.chat.domain.support import Features, Model, answers, score

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
