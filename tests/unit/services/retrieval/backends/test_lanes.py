"""Whose turn it is on the model's thread."""

from collections import Counter

import pytest

from services.retrieval.backends.lanes import Lane, Turns

COST = {Lane.QUERY: 0.01, Lane.RERANK: 0.05, Lane.PASSAGE: 0.1}


def spent(waiting: list[Lane], *, seconds: float) -> Counter[Lane]:
    """Return the seconds that each lane gets when all of these wait without a gap."""
    turns, had = Turns(), Counter[Lane]()
    while had.total() < seconds:
        lane = turns.choose(waiting)
        had[lane] += COST[lane]  # type: ignore[assignment]
        turns.ran(lane, COST[lane], waiting)
    return had


def test_without_others_the_first_lane_that_waits_has_the_turn() -> None:
    turns = Turns()
    assert turns.choose([Lane.PASSAGE]) is Lane.PASSAGE
    assert turns.choose([Lane.PASSAGE, Lane.QUERY]) is Lane.QUERY
    assert turns.choose([Lane.RERANK, Lane.PASSAGE]) is Lane.RERANK


def test_passages_get_a_ninth_of_the_thread_under_questions_without_a_gap() -> None:
    had = spent([Lane.QUERY, Lane.PASSAGE], seconds=100)
    assert had[Lane.PASSAGE] / had.total() == pytest.approx(1 / 9, abs=0.01)


def test_with_three_lanes_each_one_goes_on_and_questions_have_the_most() -> None:
    had = spent(list(Lane), seconds=100)
    assert had[Lane.QUERY] > 0.7 * had.total()
    assert had[Lane.RERANK] > 0.08 * had.total()
    assert had[Lane.PASSAGE] > 0.08 * had.total()


def test_a_lane_saves_up_only_while_it_waits() -> None:
    turns = Turns()
    for _ in range(1000):
        turns.ran(Lane.QUERY, COST[Lane.QUERY], [Lane.QUERY])
    turns.ran(Lane.PASSAGE, COST[Lane.PASSAGE], [Lane.QUERY, Lane.PASSAGE])
    # What questions had before the passages came is not owed to them.
    assert turns.choose([Lane.QUERY, Lane.PASSAGE]) is Lane.QUERY


def test_one_question_among_passages_goes_first() -> None:
    turns = Turns()
    for _ in range(100):
        turns.ran(Lane.PASSAGE, COST[Lane.PASSAGE], [Lane.PASSAGE])
        assert turns.choose([Lane.QUERY, Lane.PASSAGE]) is Lane.QUERY
        turns.ran(Lane.QUERY, COST[Lane.QUERY], [Lane.PASSAGE])
