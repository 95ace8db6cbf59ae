import random

import pytest

from services.chassis.errors import Conflict
from services.finetuning.domain.promotions import (
    ALPHA,
    Decision,
    Promotion,
    PromotionState,
    Tally,
    bounds,
    decide,
)

OPENED = Promotion("promo_1", "acme", "support", "ft:new", "ft:old", PromotionState.GATED, 0.1, 20, "mara", 1.0)


def test_intervals_hold_the_rate_and_shrink() -> None:
    assert bounds(0, 0, alpha=0.05) == (0.0, 1.0)
    low, high = bounds(30, 100, alpha=0.05)
    assert low < 0.3 < high
    wide, narrow = bounds(3, 10, alpha=0.05), bounds(300, 1000, alpha=0.05)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert bounds(0, 50, alpha=0.05)[0] == 0.0
    assert bounds(50, 50, alpha=0.05)[1] == 1.0


def test_an_interval_holds_at_all_times_at_once() -> None:
    """Looking after every trial, the share of runs in which the true rate is ever missed stays below alpha."""
    draw = random.Random(7)
    missed = 0
    runs = 200
    for _ in range(runs):
        hits = 0
        for trials in range(1, 151):
            hits += draw.random() < 0.2
            low, high = bounds(hits, trials, alpha=0.05)
            if not low <= 0.2 <= high:
                missed += 1
                break
    assert missed / runs <= 0.05 + 0.03  # three standard errors of 200 runs


def test_too_few_judgements_decide_nothing() -> None:
    decision, reason = decide(Tally(judged=5), Tally(judged=50, bad=5), min_judgements=20)
    assert decision is Decision.GO_ON
    assert "5 of 20" in reason


def test_a_candidate_that_is_as_good_is_promoted() -> None:
    decision, _ = decide(Tally(judged=20, bad=2), Tally(judged=100, bad=10), min_judgements=20)
    assert decision is Decision.PROMOTE


def test_a_candidate_that_is_worse_beyond_doubt_goes_back_before_it_has_enough_judgements() -> None:
    decision, reason = decide(Tally(judged=18, bad=17), Tally(judged=200, bad=10), min_judgements=50)
    assert decision is Decision.ROLL_BACK
    assert "17 of 18 against 10 of 200" in reason


def test_a_candidate_that_fails_goes_back_without_any_judgement() -> None:
    decision, reason = decide(Tally(answers=12, failures=12), Tally(answers=300), min_judgements=20)
    assert decision is Decision.ROLL_BACK
    assert reason.startswith("failures")


def test_equal_ones_are_hardly_ever_rolled_back() -> None:
    draw = random.Random(3)
    wrong = 0
    for _ in range(100):
        candidate, current = Tally(), Tally()
        for _ in range(200):
            candidate = candidate.judge(bad=draw.random() < 0.3)
            current = current.judge(bad=draw.random() < 0.3)
            decision, _ = decide(candidate, current, min_judgements=10_000)
            if decision is Decision.ROLL_BACK:
                wrong += 1
                break
    assert wrong / 100 <= ALPHA


def test_states_move_one_way() -> None:
    promoted = OPENED.moved(PromotionState.CANARY, 2.0, "gate").moved(PromotionState.PROMOTED, 3.0, "good")
    assert [step.state.value for step in promoted.history] == ["canary", "promoted"]
    assert promoted.finished_at == 3.0
    with pytest.raises(Conflict):
        promoted.moved(PromotionState.CANARY, 4.0, "again")
    assert promoted.moved(PromotionState.ROLLED_BACK, 5.0, "worse").state is PromotionState.ROLLED_BACK
