"""A plan says everything, refuses what cannot be trained, and comes back from JSON as it went."""

from pathlib import Path

import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import (
    Device,
    LoraShape,
    Precision,
    Stage,
    TrainingPlan,
    TrainingSettings,
    checkpoint_step,
    newest_checkpoint,
)


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**{"n_epochs": 3, "batch_size": 8, "learning_rate": 2e-4, "beta": 0.1} | changes)  # type: ignore[arg-type]


def plan(**changes: object) -> TrainingPlan:
    known = {
        "stage": Stage.DPO,
        "base_folder": Path("/models/base"),
        "base_name": "base",
        "rows": Path("/scratch/rows.jsonl"),
        "work": Path("/scratch/job"),
        "settings": settings(),
    }
    return TrainingPlan(**known | changes)  # type: ignore[arg-type]


def test_a_plan_comes_back_from_json_as_it_went() -> None:
    sent = plan(
        stage=Stage.RLAIF,
        settings=settings(lora=LoraShape(8, 16.0, 0.1, ("q_proj", "v_proj"), rank_stabilised=True), seed=7),
        start_adapter=Path("/adapters/one"),
        judge_adapter=Path("/adapters/judge"),
        constitution="Be brief.",
        allowed_modules=frozenset({"q_proj", "v_proj"}),
        device=Device.CUDA,
        precision=Precision.FP32,
    )
    assert TrainingPlan.from_json(sent.to_json()) == sent


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"stage": "dpo"}', plan().to_json().replace('"dpo"', '"ppo"'), '{"colour": 1}']
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TrainingPlan.from_json(text)
    assert caught.value.param == "plan"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 51),
        ("batch_size", 0),
        ("batch_size", 257),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", 2.0),
        ("beta", 0.0),
        ("beta", -1.0),
        ("max_length", 4),
        ("max_steps", -1),
        ("samples_per_prompt", 1),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: ") as caught:
        settings(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lora.rank", {"rank": 0}),
        ("lora.rank", {"rank": 513}),
        ("lora.alpha", {"alpha": 0.0}),
        ("lora.dropout", {"dropout": 1.0}),
        ("lora.dropout", {"dropout": float("nan")}),
        ("lora.target_modules", {"target_modules": ("q_proj", "")}),
        ("lora.target_modules", {"target_modules": ("../q",)}),
    ],
)
def test_an_adapter_of_no_possible_shape_is_refused(name: str, shape: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        LoraShape(**shape)  # type: ignore[arg-type]
    assert caught.value.param == name


def test_reinforcement_learning_needs_exactly_one_that_scores() -> None:
    for scorers in ({}, {"reward_model": Path("/r"), "grader_json": "{}"}):
        with pytest.raises(InvalidInput) as caught:
            plan(stage=Stage.RLHF, **scorers)
        assert caught.value.param == "reward_model"
    assert plan(stage=Stage.RLHF, grader_json="{}").stage is Stage.RLHF


def test_feedback_of_a_model_needs_a_constitution() -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(stage=Stage.RLAIF, constitution="  ")
    assert caught.value.param == "constitution"


def test_only_a_reward_model_is_no_adapter() -> None:
    assert [stage for stage in Stage if not stage.makes_adapter] == [Stage.REWARD_MODEL]
    assert plan(stage=Stage.REWARD_MODEL).result == Path("/scratch/job/reward-model")
    assert plan().result == Path("/scratch/job/adapter")


def test_the_newest_checkpoint_is_that_of_the_last_step() -> None:
    folder = Path("/scratch/job/checkpoints")
    found = [folder / name for name in ("step-9", "step-100", "step-20", ".unfinished-step-200", "step-x", "other")]
    assert newest_checkpoint(found) == folder / "step-100"
    assert newest_checkpoint([folder / "other"]) is None
    assert checkpoint_step(plan().checkpoint(40)) == 40
