"""When a question stands by itself, and what is done when it does not."""

import pytest

from services.chat.domain.rewriting import accept_rewrite, is_self_contained, lexical_rewrite, split
from services.chat.domain.turn import Message

HISTORY = (
    Message("user", "Who leads Project Falcon?"),
    Message("assistant", "Maria Lopez leads Project Falcon from Lisbon."),
)


@pytest.mark.parametrize("question", ["What is the PTO policy for contractors?", "Which office does Peter Jones lead?"])
def test_a_full_question_stands_by_itself(question: str) -> None:
    assert is_self_contained(question, HISTORY)


@pytest.mark.parametrize("question", ["When does it start?", "And the budget?", "Why?", "What about Project Eagle?"])
def test_a_question_that_points_back_does_not(question: str) -> None:
    assert not is_self_contained(question, HISTORY)
    assert is_self_contained(question, ())


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("When does it start?", "When does Project Falcon start?"),
        ("What is her e-mail address?", "What is Maria Lopez's e-mail address?"),
        ("What about Project Eagle?", "Who leads Project Eagle?"),
    ],
)
def test_the_lexical_rewrite_names_what_was_spoken_of(question: str, expected: str) -> None:
    assert lexical_rewrite(question, HISTORY) == expected


@pytest.mark.parametrize(
    ("asked", "answered", "question", "expected"),
    [
        ("When is the pool open on working days?", "From 7 to 19.", "And on Sundays?", "When is the pool open on Sundays?"),
        ("How long may a sabbatical be?", "Three months.", "After how many years may I take one?", "After how many years may I take sabbatical?"),
        ("What is the Writing Lab?", "A virtual centre.", "Who gives help there?", "Who gives help at Writing Lab?"),
        ("How often is the Rill 200 calibrated?", "Every 24 months.", "How long does that take?", "How long does that take (Rill 200 calibrated)?"),
        ("What is lunch for employees?", "4 euros.", "And how much do guests pay?", "how much do guests pay (lunch employees)?"),
    ],
)  # fmt: skip
def test_what_is_missing_is_taken_from_the_last_question(
    asked: str, answered: str, question: str, expected: str
) -> None:
    assert lexical_rewrite(question, (Message("user", asked), Message("assistant", answered))) == expected


def test_parts_become_queries_of_their_own() -> None:
    assert split("Who leads Falcon and when does it end?") == ("Who leads Falcon?", "when does Falcon end?")
    told = "Hello! I travel to Japan next month. How do I set up a travel notification?"
    assert split(told) == (told, "How do I set up a travel notification?")
    assert split("Is there bread and butter?") == ("Is there bread and butter?",)


@pytest.mark.parametrize(
    ("output", "accepted"),
    [
        ('Question: "When does Project Falcon start?"', "When does Project Falcon start?"),
        ("When does it start?", None),
        ("", None),
        ("The capital of France is Paris and it is a lovely city.", None),
        ("start start start Falcon", None),
        ("When does the weather start?", None),
        ("Project Falcon starts in Lisbon.", None),
        ("Who does Project Falcon start?", None),
        ("When does Project Falcon start in 2031?", None),
    ],
)
def test_a_models_rewrite_is_taken_only_when_it_helps(output: str, accepted: str | None) -> None:
    assert accept_rewrite(output, "When does it start?", HISTORY) == accepted
