"""A dry run tells what a training would take, and leaves nothing behind."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from services.finetuning.domain.training import Stage, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.dry_run import measure, sampled_places
from services.finetuning.trainer.refusal import Refused

Plans = Callable[..., TrainingPlan]


def chat(words: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "word " * words},
            {"role": "assistant", "content": "It is on the left."},
        ]
    }


def test_it_measures_and_estimates(plans: Plans) -> None:
    rows = [chat(5 + number % 40) for number in range(40)]
    plan = plans(Stage.SUPERVISED, rows=rows, held_out=rows[:4], settings={"n_epochs": 3, "max_steps": 0})
    found = measure(plan, budget_s=30)
    assert (found.rows, found.rows_without_labels) == (40, 0)
    assert found.total_steps == 30
    assert found.total_tokens == pytest.approx(3 * 40 * found.tokens_per_row)
    assert found.tokens_per_row < found.longest_row
    assert 0.5 < found.masked_share < 1
    assert found.truncated_share == 0
    assert found.estimated_s > found.total_tokens / found.tokens_per_s > 0
    assert found.peak_memory_bytes > 1 << 20
    assert not plan.work.exists()


def test_fewer_steps_take_less(plans: Plans) -> None:
    rows = [chat(9) for _ in range(40)]
    found = measure(plans(Stage.SUPERVISED, rows=rows, settings={"n_epochs": 2, "max_steps": 5}), budget_s=30)
    assert found.total_steps == 5
    assert found.total_tokens == pytest.approx(5 * 4 * found.tokens_per_row)


def test_when_time_is_up_one_step_must_do(plans: Plans) -> None:
    assert measure(plans(Stage.DPO), budget_s=1e-6).tokens_per_s > 0


@pytest.mark.parametrize("stage", [Stage.CONTINUED_PRETRAINING, Stage.KTO, Stage.REWARD_MODEL, Stage.RLAIF])
def test_other_stages_are_measured_too(stage: Stage, plans: Plans) -> None:
    plan = plans(stage, settings={"max_steps": 0})
    found = measure(plan, budget_s=0.01)
    assert found.total_steps >= 2
    assert found.estimated_s > 0
    assert not plan.work.exists()


def test_answers_that_will_be_sampled_are_measured(plans: Plans) -> None:
    plan = plans(Stage.RLHF, grader_json="{}", settings={"max_steps": 0})
    found = measure(plan, budget_s=0.01, grader=lambda text, row: float(len(text)))
    assert found.total_steps == 3
    assert found.estimated_s > 3 * found.seconds_per_step > 0


def test_what_could_not_be_trained_is_refused(plans: Plans) -> None:
    with pytest.raises(Refused) as caught:
        measure(plans(Stage.SUPERVISED, rows=[{"messages": [{"role": "user", "content": "?"}]}]), budget_s=5)
    assert caught.value.code is FailureCode.INVALID_TRAINING_FILE


def test_typical_rows_come_first_and_the_longest_last() -> None:
    draw = random.Random(5)
    lengths = [draw.randrange(10, 1000) for _ in range(97)]
    places = sampled_places(lengths, 8, 3)
    assert len(places) == 24
    assert places[:8] == places[8:16]
    mean = sum(lengths[it] for it in places[:8]) / 8
    assert mean == pytest.approx(sum(lengths) / len(lengths), rel=0.1)
    assert sorted(lengths[it] for it in places[16:]) == sorted(lengths)[-8:]
    assert sampled_places([7], 1, 3) == [0, 0, 0]
