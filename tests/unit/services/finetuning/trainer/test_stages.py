"""Two steps of every stage, on a small model: what is told, what is written, and that the stage does what it is for."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan
from services.finetuning.domain.training_messages import (
    CheckpointSaved,
    FailureCode,
    Finished,
    Metrics,
    RowsRead,
    Started,
)
from services.finetuning.trainer.refusal import Refused
from services.generation.backends.adapter_content import AdapterContent
from services.generation.backends.adapter_files import FolderInspector, base_shapes
from services.generation.domain import AdapterLimits

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]

ALL_LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
# Those whose rows need nothing else. (RLHF needs a reward model, RLAIF a judge: see below.)
PLAIN = [stage for stage in Stage if not stage.samples]


def row(stage: Stage, number: int) -> dict[str, Any]:
    """The rows of the plans, held out."""
    question = {"role": "user", "content": f"What is the number of hall {number}?"}
    answer = {"role": "assistant", "content": f"It is {number * 7}."}
    other = {"role": "assistant", "content": "No idea, my friend; ask somebody else, please."}
    match stage:
        case Stage.CONTINUED_PRETRAINING:
            return {"text": f"Hall {number} has the number {number * 7} written on its door. " * 3}
        case Stage.KTO:
            return {"messages": [question, answer], "label": number % 2 > 0}
        case Stage.DPO | Stage.REWARD_MODEL:
            return {
                "input": {"messages": [question]},
                "preferred_output": [answer],
                "non_preferred_output": [other],
            }
        case Stage.RLHF | Stage.RLAIF:
            return {"messages": [question]}
        case _:
            return {"messages": [question, answer]}


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


@pytest.mark.parametrize("stage", PLAIN, ids=lambda it: it.value)
async def test_two_steps_of_a_stage(stage: Stage, plans: Plans, trained: Trained, tiny: Path) -> None:
    plan = plans(stage, held_out=[row(stage, number) for number in range(4)])
    run = trained(plan)

    # What is told.
    assert [type(it) for it in run.messages[:2]] == [RowsRead, Started]
    assert run.of(Started)[0].total_steps == 2
    assert sorted(run.curve()) == [1, 2]
    assert all(math.isfinite(value) for value in run.curve().values())
    assert set(run.curve("valid_loss")) == {1, 2}
    assert run.curve("tokens")[2] > run.curve("tokens")[1] > 0
    assert run.curve("learning_rate") == {1: pytest.approx(5e-3), 2: pytest.approx(2.5e-3)}
    assert [it.step for it in run.of(CheckpointSaved)] == [1, 2]
    assert run.finished.step == 2
    assert run.finished.trained_tokens == run.curve("tokens")[2]
    assert run.finished.metrics["valid_loss"] == run.curve("valid_loss")[2]

    # What is written.
    if stage is Stage.REWARD_MODEL:
        assert run.finished.adapter_folder is None
        assert (plan.result / "model.safetensors").is_file()
        return
    assert run.adapter == plan.result
    assert sorted(it.name for it in run.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("tiny-base", 16)
    assert sorted(config["target_modules"]) == ALL_LINEAR
    assert str(tiny.parent) not in (run.adapter / "adapter_config.json").read_text()
    # The engine's own inspection takes it, and a checkpoint's too.
    limits = AdapterLimits(frozenset(ALL_LINEAR), max_rank=16, max_bytes=1 << 30)
    inspect = FolderInspector(plan.work, content=AdapterContent(limits, shapes=base_shapes(tiny)))
    for folder in (run.adapter, run.of(CheckpointSaved)[0].adapter_folder):
        assert (await inspect.inspect(str(folder))).rank == 16
    # Something was learnt.
    assert any(it.any() for name, it in tensors(run.adapter).items() if "lora_B" in name)


def test_the_same_seed_gives_the_same_losses_and_another_gives_others(plans: Plans, trained: Trained) -> None:
    drop = LoraShape(rank=4, alpha=8.0, dropout=0.2)
    curves = [trained(plans(Stage.SUPERVISED, settings={"seed": seed, "lora": drop})).curve() for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


def test_steps_are_those_of_the_epochs_unless_fewer_are_wanted(plans: Plans, trained: Trained) -> None:
    for most, steps in ((100, 6), (5, 5)):
        run = trained(plans(Stage.SUPERVISED, settings={"n_epochs": 2, "max_steps": most, "checkpoint_every": 50}))
        assert run.finished.step == steps
        assert [it.step for it in run.of(CheckpointSaved)] == [steps]


def test_the_shape_that_is_asked_for_is_the_shape_that_is_made(plans: Plans, trained: Trained) -> None:
    shape = LoraShape(rank=4, alpha=6.0, target_modules=("v_proj", "q_proj"), rank_stabilised=True)
    run = trained(plans(Stage.SUPERVISED, settings={"lora": shape}))
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 6, True)
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    assert {len(it) for name, it in tensors(run.adapter).items() if "lora_A" in name} == {4}


def test_layers_that_the_engine_cannot_adapt_are_left_alone_or_refused(plans: Plans, trained: Trained) -> None:
    allowed = frozenset({"q_proj", "o_proj", "wqkv"})
    run = trained(plans(Stage.SUPERVISED, allowed_modules=allowed))
    assert {name.split(".")[-3] for name in tensors(run.adapter)} == {"q_proj", "o_proj"}
    asked = LoraShape(target_modules=("q_proj", "v_proj"))
    with pytest.raises(Refused, match=r"^lora\.target_modules: v_proj cannot be adapted; use o_proj, q_proj\.$"):
        trained(plans(Stage.SUPERVISED, allowed_modules=allowed, settings={"lora": asked}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_train_alike(precision: str, plans: Plans, trained: Trained) -> None:
    from services.finetuning.domain.training import Precision

    run = trained(plans(Stage.SUPERVISED, precision=Precision(precision)))
    assert run.curve()[1] == pytest.approx(11.4, abs=1.5)
    # Whatever the base is held in, an adapter's own weights are 32-bit floats.
    assert {str(it.dtype) for it in tensors(run.adapter).values()} == {"torch.float32"}


def test_a_loss_that_is_no_number_ends_the_training_and_is_not_saved(plans: Plans, trained: Trained) -> None:
    plan = plans(Stage.SUPERVISED, settings={"learning_rate": 1.0, "lora": LoraShape(rank=4, alpha=65_536.0)})
    messages: list[Any] = []
    with pytest.raises(Refused, match="not a finite number") as caught:
        from services.finetuning.trainer.run import train

        train(_poisoned(plan), send=messages.append)
    assert caught.value.code is FailureCode.LOSS_NOT_FINITE
    assert not [it for it in messages if isinstance(it, CheckpointSaved | Finished)]
    assert not list(plan.checkpoints.glob("step-*"))


def _poisoned(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan on a base model one of whose weights is no number."""
    import dataclasses
    import shutil

    from safetensors.torch import load_file, save_file

    folder = plan.work.parent / "poisoned"
    shutil.copytree(plan.base_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return dataclasses.replace(plan, base_folder=folder)


def test_a_base_that_cannot_be_loaded_is_refused(plans: Plans, trained: Trained, tiny: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(Refused, match="base model cannot be loaded") as caught:
        trained(plans(Stage.SUPERVISED, base=broken))
    assert caught.value.code is FailureCode.INVALID_MODEL


def test_rows_that_teach_nothing_are_told_before_anything_is_loaded(plans: Plans, trained: Trained) -> None:
    silent = {"messages": [{"role": "user", "content": "Hello?"}]}
    with pytest.raises(Refused) as caught:
        trained(plans(Stage.SUPERVISED, rows=[silent]))
    assert caught.value.code is FailureCode.INVALID_TRAINING_FILE
    with pytest.raises(Refused) as caught:
        trained(plans(Stage.SUPERVISED, held_out=[silent]))
    assert caught.value.code is FailureCode.INVALID_VALIDATION_FILE


def test_thumbs_weigh_alike_however_many_there_are_of_each(plans: Plans, trained: Trained) -> None:
    rows = [{**row(Stage.KTO, number), "label": number % 4 > 0} for number in range(16)]
    run = trained(plans(Stage.KTO, rows=rows, settings={"max_steps": 4, "batch_size": 8}))
    assert run.curve("kl")
    with pytest.raises(Refused, match="at least 2 rows"):
        trained(plans(Stage.KTO, settings={"batch_size": 1}))


def test_tokens_for_each_second_are_told(plans: Plans, trained: Trained) -> None:
    run = trained(plans(Stage.SUPERVISED))
    assert all(value > 0 for value in run.curve("tokens_per_s").values())
    epochs = [it.epoch for it in run.of(Metrics) if "loss" in it.values]
    assert epochs == sorted(epochs)
