"""A reward model tells better answers from worse, and answers are trained towards what it, or a grader, prefers."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode, RowsRead
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rewards import graded

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]


def pair(number: int) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"What is the number of room {number}?"}]},
        "preferred_output": [{"role": "assistant", "content": f"Certainly: room {number}, on the left."}],
        "non_preferred_output": [{"role": "assistant", "content": f"Nobody knows rooms like {number}!"}],
    }


def prompt(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"What is the number of room {number}?"}], "wanted": number}


def scores(folder: Any, tokenizer: Any, numbers: range) -> list[tuple[float, float]]:
    """Return the scores of better and worse answers, as RLHF would compute them."""
    import torch

    from services.finetuning.trainer.rewards import reward_model

    model, _ = reward_model(folder)
    found = []
    for number in numbers:
        row = pair(number)
        both = []
        for answer in (row["preferred_output"], row["non_preferred_output"]):
            ids = tokenizer.apply_chat_template(row["input"]["messages"] + answer, return_dict=False)
            with torch.no_grad():
                both.append(float(model(input_ids=torch.tensor([ids])).logits[0, 0]))
        found.append((both[0], both[1]))
    return found


def test_a_reward_model_prefers_better_answers_that_it_never_saw(
    plans: Plans, trained: Trained, tokenizer: Any
) -> None:
    held_out = [pair(number) for number in range(40, 44)]
    settings = {"n_epochs": 3, "max_steps": 0, "checkpoint_every": 50, "evaluate_every": 8}
    run = trained(plans(Stage.REWARD_MODEL, rows=[pair(it) for it in range(32)], held_out=held_out, settings=settings))
    margins = run.curve("valid_margin")
    assert margins[24] > margins[8]
    folder = run.finished.reward_model_folder
    found = scores(folder, tokenizer, range(40, 48))
    assert all(better > worse for better, worse in found)
    # A whole model, merged: nothing of the adapter is needed to load it.
    assert not list(folder.glob("adapter*"))


def test_a_reward_model_goes_on_from_the_adapter_of_the_stage_before(plans: Plans, trained: Trained) -> None:
    shape = LoraShape(rank=4, alpha=8.0)
    before = trained(plans(Stage.SUPERVISED, settings={"lora": shape})).adapter
    run = trained(plans(Stage.REWARD_MODEL, start_adapter=before, settings={"lora": shape}))
    assert run.finished.step == 2
    with pytest.raises(Refused, match=r"^lora\.rank"):
        trained(plans(Stage.REWARD_MODEL, start_adapter=before, settings={"lora": LoraShape(rank=8)}))


def test_reinforcement_learning_against_a_reward_model(plans: Plans, trained: Trained) -> None:
    shape = LoraShape(rank=4, alpha=8.0)
    before = trained(plans(Stage.SUPERVISED, settings={"lora": shape})).adapter
    reward = trained(plans(Stage.REWARD_MODEL)).finished.reward_model_folder
    plan = plans(
        Stage.RLHF,
        reward_model=reward,
        start_adapter=before,
        held_out=[prompt(number) for number in range(40, 44)],
        settings={"lora": shape},
    )
    run = trained(plan)
    assert run.finished.step == 2
    # At its first step the policy is the reference, the stage before; afterwards it has moved away from it.
    assert run.curve("kl")[1] == pytest.approx(0.0, abs=1e-6)
    assert run.curve("kl")[2] > 0
    assert set(run.curve("reward")) == set(run.curve("valid_reward")) == {1, 2}
    assert run.finished.trained_tokens > 0
    assert run.curve("completion_length")[1] <= 6


def test_a_grader_scores_answers_with_their_row(plans: Plans, trained: Trained) -> None:
    seen: list[tuple[str, Any]] = []

    def grader(text: str, row: Mapping[str, Any]) -> float:
        seen.append((text, row["wanted"]))
        return float(len(text))

    rows = [prompt(number) for number in range(8)]
    run = trained(plans(Stage.RLHF, rows=rows, grader_json='{"type": "string_check"}'), grader=grader)
    assert len(seen) == 2 * 4 * 2
    assert {wanted for _, wanted in seen} == set(range(8))
    mean = sum(len(text) for text, _ in seen[:8]) / 8
    assert run.curve("reward")[1] == pytest.approx(mean)


def test_without_anything_that_scores_it_is_refused(plans: Plans, trained: Trained) -> None:
    with pytest.raises(Refused) as caught:
        trained(plans(Stage.RLHF, grader_json="{}"))
    assert caught.value.code is FailureCode.INVALID_SETTING


def test_fewer_prompts_than_a_batch_are_trained_on_all_the_same(plans: Plans, trained: Trained) -> None:
    run = trained(
        plans(Stage.RLHF, rows=[prompt(1), prompt(2)], grader_json="{}", settings={"max_steps": 1}),
        grader=lambda text, row: float(len(text)),
    )
    assert run.finished.step == 1
    assert run.of(RowsRead)[0].rows == 2


def test_a_grader_sees_what_was_answered_and_the_row_as_it_was() -> None:
    grade = graded(lambda text, row: len(text) + row["bonus"])
    answers = [[{"role": "assistant", "content": "ab"}], [{"role": "assistant", "content": "abcd"}]]
    assert grade(completions=answers, row=['{"bonus": 1}', '{"bonus": 10}'], prompts=[], trainer_state=None) == [3, 14]
