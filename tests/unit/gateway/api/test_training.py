"""What a training job is asked for with: OpenAI's words, ours beside them, and errors that name field, value and allowed."""

import json
from typing import Any

import pytest

from gateway.api.bodies import parse
from gateway.api.training import TrainingBody, new_job
from gateway.domain.tuning import Lora, NewJob, Stage
from services.chassis.errors import InvalidInput

GRADER = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "x",
    "operation": "eq",
}


def asked(**more: Any) -> NewJob:
    return new_job(parse(TrainingBody, json.dumps({"model": "default", "training_file": "file-1"} | more).encode()))


def refused(**more: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        asked(**more)
    return caught.value


def test_nothing_but_a_model_and_a_file_is_supervised_with_everything_left_to_the_room() -> None:
    job = asked()
    assert (job.model, job.training_file, job.spec.stage) == ("default", "file-1", Stage.SUPERVISED)
    assert (job.spec.n_epochs, job.spec.batch_size, job.spec.beta, job.spec.lora) == (None, None, None, Lora())
    assert (job.method_json, job.integrations_json, job.seed, job.suffix) == ("", "", None, "")


def test_explicit_nulls_are_not_given() -> None:
    names = ("validation_file", "suffix", "seed", "metadata", "integrations", "hyperparameters", "method", "brain")
    assert asked(**dict.fromkeys(names)).spec == asked().spec


@pytest.mark.parametrize(
    ("method", "stage"), [("supervised", Stage.SUPERVISED), ("dpo", Stage.DPO), ("reinforcement", Stage.RLHF)]
)
def test_a_method_says_the_stage_and_is_kept_as_written(method: str, stage: Stage) -> None:
    settings: dict[str, Any] = {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}
    if method == "reinforcement":
        settings["grader"] = GRADER
    written = {"type": method, method: settings}
    job = asked(method=written)
    assert (job.spec.stage, job.spec.n_epochs, job.spec.batch_size) == (stage, 2, None)
    assert json.loads(job.method_json) == written


def test_reinforcement_is_told_in_our_words() -> None:
    hyperparameters = {"eval_interval": 5, "compute_multiplier": 2, "eval_samples": 3, "reasoning_effort": "low"}
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": hyperparameters}}
    spec = asked(method=method).spec
    assert (spec.evaluate_every, spec.samples_per_prompt) == (5, 8)
    assert json.loads(spec.grader_json) == GRADER


def test_the_deprecated_hyperparameters_still_hold() -> None:
    spec = asked(hyperparameters={"n_epochs": 7, "learning_rate_multiplier": 0.5, "batch_size": "auto"}).spec
    assert (spec.n_epochs, spec.learning_rate_multiplier, spec.batch_size) == (7, 0.5, None)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    assert refused(hyperparameters={"n_epochs": 7}, method=method).param == "hyperparameters"
    # Who says nothing in them may have both.
    assert asked(hyperparameters={"n_epochs": "auto"}, method=method).spec.n_epochs == 2


def test_our_stages_and_settings_stand_under_brain() -> None:
    ours = {
        "stage": "kto",
        "lora": {"r": 8, "alpha": 32, "dropout": 0.1, "target_modules": ["q_proj"], "rank_stabilised": True},
        "n_epochs": 4,
        "beta": 0.2,
        "max_steps": 2,
        "checkpoint_every": 1,
        "evaluate_every": 1,
        "budget_s": 60,
    }
    spec = asked(brain=ours).spec
    assert spec.stage is Stage.KTO
    assert spec.lora == Lora(8, 32, 0.1, ("q_proj",), rank_stabilised=True)
    assert (spec.n_epochs, spec.beta, spec.max_steps, spec.budget_s) == (4, 0.2, 2, 60)
    assert (spec.checkpoint_every, spec.evaluate_every) == (1, 1)


def test_a_stage_may_refine_a_method_and_not_contradict_it() -> None:
    assert asked(method={"type": "supervised"}, brain={"stage": "raft"}).spec.stage is Stage.RAFT
    error = refused(method={"type": "dpo"}, brain={"stage": "raft"})
    assert error.param == "brain.stage"
    assert "'raft'" in error.message
    assert "reward_model" in error.message


def test_nothing_is_said_twice() -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}
    assert refused(method=method, brain={"beta": 0.2}).param == "brain.beta"
    reinforcement = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    assert refused(method=reinforcement, brain={"grader": GRADER}).param == "brain.grader"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"model": ""}, "model", "''"),
        ({"training_file": None}, "training_file", "None"),
        ({"suffix": "x" * 65}, "suffix", "64"),
        ({"suffix": ""}, "suffix", "at least 1"),
        ({"seed": -1}, "seed", "-1"),
        ({"seed": 2**31}, "seed", str(2**31)),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "16"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "512"),
        ({"method": {"type": "ppo"}}, "method.type", "'reinforcement'"),
        ({"method": {"type": "reinforcement"}}, "method", "reinforcement.grader"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.reinforcement.grader", "required"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method", "'dpo'"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "from 1 to 50 (got 51)"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "'auto'"),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", "True"),
        ({"hyperparameters": {"batch_size": 0}}, "hyperparameters.batch_size", "from 1 to 256 (got 0)"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", "above 0"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "nothing"),
        ({"brain": {"stage": "ppo"}}, "brain.stage", "'rlhf'"),
        ({"brain": {"stagge": "rlhf"}}, "brain.stagge", "'rlhf'"),
        ({"brain": {"lora": {"r": 0}}}, "brain.lora.r", "0"),
        ({"brain": {"lora": {"dropout": 1}}}, "brain.lora.dropout", "less than 1"),
        ({"brain": {"samples_per_prompt": 1}}, "brain.samples_per_prompt", "2"),
    ],
)
def test_an_error_names_the_field_the_value_and_what_is_allowed(body: dict[str, Any], param: str, said: str) -> None:
    error = refused(**body)
    assert error.param == param
    assert said in error.message


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("dpo", "beta", 0),
        ("reinforcement", "compute_multiplier", 11),
        ("reinforcement", "eval_interval", 0),
        ("reinforcement", "eval_samples", 1.5),
        ("reinforcement", "reasoning_effort", "heroic"),
    ],
)
def test_each_method_checks_its_own_hyperparameters(kind: str, name: str, value: Any) -> None:
    settings: dict[str, Any] = {"hyperparameters": {name: value}}
    if kind == "reinforcement":
        settings["grader"] = GRADER
    error = refused(method={"type": kind, kind: settings})
    assert error.param == f"method.{kind}.hyperparameters.{name}"
    assert repr(value) in error.message


def test_integrations_that_name_nobody_are_echoed() -> None:
    assert asked(integrations=[]).integrations_json == "[]"
