"""What a training process says comes over as it was said, on one line each."""

import json
from pathlib import Path

import pytest

from services.finetuning.domain.training_messages import (
    CheckpointSaved,
    DryRun,
    Failed,
    FailureCode,
    Finished,
    Message,
    Metrics,
    PairsJudged,
    Paused,
    RowsRead,
    Started,
    decode,
    encode,
)

MESSAGES: list[Message] = [
    RowsRead(rows=10, without_labels=0, tokens=900, masked_tokens=700, truncated_tokens=3, longest=120),
    Started(total_steps=40, trainable_parameters=123, checkpoint_every=2, evaluate_every=4, step=20),
    Metrics(step=1, epoch=0.5, values={"loss": 2.5, "valid_loss": 2.75}),
    CheckpointSaved(step=2, folder=Path("/w/step-2"), adapter_folder=Path("/w/step-2/adapter"), metrics={"loss": 1.0}),
    PairsJudged(prompts=4, pairs=8, different=7, usable=6, path=Path("/w/judged.jsonl")),
    Finished(step=40, trained_tokens=10_000, metrics={"loss": 0.5}, adapter_folder=Path("/w/adapter")),
    Finished(step=40, trained_tokens=10_000, metrics={}, reward_model_folder=Path("/w/reward-model")),
    Paused(step=6, folder=Path("/w/step-6")),
    Paused(step=0),
    Failed(FailureCode.LOSS_NOT_FINITE, "It is not finite.\nNot at all."),
    DryRun(10, 0, 90.0, 120, 0.7, 0.01, 200.0, 1.5, 1 << 30, 40, 36_000, 190.0),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_a_message_comes_over_on_one_line(message: Message) -> None:
    line = encode(message)
    assert "\n" not in line
    assert decode(line) == message
    assert decode(f"{line}\n".encode()) == message


def test_numbers_that_are_not_finite_are_left_out() -> None:
    line = encode(Metrics(step=1, epoch=0.5, values={"loss": float("nan"), "kl": float("inf"), "margin": 1.0}))
    assert json.loads(line)["values"] == {"margin": 1.0}


@pytest.mark.parametrize(
    "line", ["", "no json", "[]", "{}", '{"type":"sung"}', '{"type":"paused"}', '{"type":"failed","code":"x"}']
)
def test_what_is_no_message_is_told_apart(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says, it is no message
        decode(line)


def test_only_a_failure_of_ours_is_not_the_callers() -> None:
    assert [code for code in FailureCode if not code.is_callers] == [FailureCode.TRAINING_FAILED]
