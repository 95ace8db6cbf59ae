"""Near duplicates are found, and no split parts what belongs together."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.finetuning.domain.near_duplicates import (
    clusters,
    comparable,
    exact_groups,
    overlap,
    question_in,
    question_of,
)
from services.finetuning.domain.rows import ChatRow, FeedbackSource, KtoRow, Origin, Row, TextRow, Turn
from services.finetuning.domain.splits import Split, split

LONG = "The reading room of the library opens at half past nine and closes at six, except on Mondays, when it stays closed."


def answered(question: str, answer: str, **origin: object) -> ChatRow:
    return ChatRow((Turn("user", question), Turn("assistant", answer)), origin=Origin(**origin))  # type: ignore[arg-type]


def test_case_spacing_and_punctuation_make_no_difference() -> None:
    texts = ["The pond opens in May.", "the  POND opens, in may", "The pond opens in June.", "The pond opens in May!"]
    assert exact_groups(texts) == ((0, 1, 3),)
    assert clusters(texts, seed=1) == (0, 0, 2, 0)


def test_a_typing_error_is_near_and_another_subject_is_not() -> None:
    texts = [
        LONG,
        LONG.replace("Mondays", "Tuesdays"),
        LONG.replace("library", "libary"),
        "What is the extension of Aino Falkner?",
        "What is the extension of Bertil Novak?",
    ]
    found = clusters(texts, seed=1)
    assert found[:3] == (0, 0, 0)
    assert found[3:] == (3, 4)


def test_nearness_goes_over_others() -> None:
    words = LONG.split()
    chain = [" ".join([*(f"new{one}" for one in range(step)), *words[step:]]) for step in range(6)]
    found = clusters(chain, seed=1, near=0.7)
    assert set(found) == {0}


@given(st.lists(st.text("abc ", max_size=30), max_size=12), st.integers(0, 2**64), st.randoms(use_true_random=False))
def test_clusters_depend_on_neither_run_nor_order(texts: list[str], seed: int, shuffled: random.Random) -> None:
    found = clusters(texts, seed=seed)
    assert found == clusters(texts, seed=seed)
    order = list(range(len(texts)))
    shuffled.shuffle(order)
    again = clusters([texts[at] for at in order], seed=seed)
    together = {(one, other) for one in order for other in order if found[one] == found[other]}
    assert together == {(order[one], order[other]) for one in order for other in order if again[one] == again[other]}


def test_rows_that_stand_in_the_questions_of_an_evaluation_are_found() -> None:
    found = overlap(
        ["What is the extension of Aino Falkner?", "When does the pond open?", LONG],
        ["when does the pond open", "Who leads Osprey?", LONG.replace("half past nine", "half past ten")],
        seed=3,
    )
    assert [(match.index, match.other) for match in found] == [(1, 0), (2, 2)]
    assert found[0].similarity == 1.0
    assert overlap(["a"], [], seed=3) == ()


def test_what_all_rows_say_tells_nothing_of_two_of_them() -> None:
    system = Turn("system", LONG * 3)
    rows: list[Row] = [
        ChatRow((system, Turn("user", f"Who leads {name}?"), Turn("assistant", f"{name} is led by {lead}.")))
        for name, lead in [("Osprey", "Mirela"), ("Heron", "Yusuf"), ("Lantern", "Dafydd"), ("Rill", "Bao")]
    ]
    texts = comparable(rows, "Question:")
    assert all(LONG not in text for text in texts)
    assert len(set(clusters(texts, seed=1))) == 4


def test_of_a_turn_with_passages_the_question_is_compared() -> None:
    turn = f'Documents:\n\n<document number="1" title="x">\n{LONG}\n</document>\n\nQuestion: Who leads Osprey?'
    assert question_in(turn, "Question:") == "Who leads Osprey?"
    assert question_in("Who leads Osprey?", "Question:") == "Who leads Osprey?"
    assert question_of(answered(turn, "Mirela."), "Question:") == "Who leads Osprey?"
    assert question_of(TextRow(LONG), "Question:") == ""


names = st.sampled_from(["", "a", "b", "c", "d", "e"])
judged = st.builds(
    lambda question, answer, rater, feedback, cluster, label: KtoRow(
        (Turn("user", f"What is {question}?"), Turn("assistant", f"It is {answer}.")),
        label=label,
        origin=Origin(
            (FeedbackSource(feedback),) if feedback else (), cluster=cluster, rater=f"user:{rater}" if rater else ""
        ),
    ),
    st.integers(0, 6),
    st.integers(0, 30),
    names,
    names,
    names,
    st.booleans(),
)


def sides(rows: list[Row], found: Split) -> tuple[list[Row], list[Row]]:
    return [rows[at] for at in found.training], [rows[at] for at in found.held_out]


@settings(max_examples=150)
@given(st.lists(judged, max_size=40), st.floats(0.01, 0.9), st.integers(0, 2**63), st.randoms(use_true_random=False))
def test_nothing_that_belongs_together_straddles(
    rows: list[Row], share: float, seed: int, shuffled: random.Random
) -> None:
    near = clusters(comparable(rows, ""), seed=1)
    found = split(rows, near=near, share=share, seed=seed, mark="")
    assert sorted((*found.training, *found.held_out, *found.left_out)) == list(range(len(rows)))
    training, held_out = sides(rows, found)
    assert training or not rows
    for belongs in (
        lambda row: row.origin.rater,
        lambda row: row.origin.cluster,
        lambda row: question_of(row, ""),
        lambda row: row.origin.sources,
    ):
        assert not ({belongs(row) for row in training} & {belongs(row) for row in held_out}) - {"", ()}
    assert not {near[at] for at in found.training} & {near[at] for at in found.held_out}

    order = list(range(len(rows)))
    shuffled.shuffle(order)
    mixed = [rows[at] for at in order]
    again = split(mixed, near=clusters(comparable(mixed, ""), seed=1), share=share, seed=seed, mark="")
    assert sorted(map(repr, sides(mixed, again)[1])) == sorted(map(repr, held_out))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_about_the_share_that_is_wanted_is_held_out(share: float) -> None:
    rows: list[Row] = [
        answered(f"Who leads {cluster}-{one}?", f"{cluster * 7919 + one} does.", cluster=f"c{cluster}")
        for cluster in range(100)
        for one in range(3)
    ]
    found = split(rows, near=clusters(comparable(rows, ""), seed=1, near=0.95), share=share, seed=5, mark="")
    assert abs(len(found.held_out) - share * 300) <= 3
    assert found.left_out == ()
    other = split(rows, near=range(300), share=share, seed=6, mark="")
    assert other.held_out != found.held_out


def test_entwined_raters_are_parted_at_the_price_of_some_rows() -> None:
    rows: list[Row] = [
        KtoRow(
            (Turn("user", f"Question {question}?"), Turn("assistant", f"Answer {rater}{question}.")),
            label=True,
            origin=Origin(rater=f"user:{rater}"),
        )
        for rater in range(8)
        for question in range(20)
    ]
    found = split(rows, near=range(len(rows)), share=0.1, seed=2, mark="")
    training, held_out = sides(rows, found)
    assert len(held_out) >= 8
    assert len(training) >= 60
    assert found.left_out
    assert not {row.origin.rater for row in training} & {row.origin.rater for row in held_out}


def test_one_rater_alone_cannot_be_parted() -> None:
    rows: list[Row] = [answered(f"Question {at}?", f"Answer {at}.", rater="user:ada") for at in range(20)]
    found = split(rows, near=range(20), share=0.2, seed=2, mark="")
    assert found == Split(tuple(range(20)), ())


def test_nothing_is_held_out_when_nothing_is_wanted() -> None:
    rows: list[Row] = [answered(f"Question {at}?", f"Answer {at}.") for at in range(3)]
    assert split(rows, near=range(3), share=0.0, seed=2, mark="") == Split((0, 1, 2), ())
    assert split([], near=(), share=0.5, seed=2, mark="") == Split((), ())
