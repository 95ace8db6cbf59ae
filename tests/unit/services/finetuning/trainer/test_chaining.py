"""Stages go on with the same tensors at the same rank, held near the stage before, and end on the pinned base."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan, TrainingSettings
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.refusal import Refused

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]

SHAPE = LoraShape(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))
PROBE = [[1, 504, 2, 77, 1904, 33, 8, 512]]


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def logits(base: Path, adapter: Path | None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        return model(input_ids=torch.tensor(PROBE)).logits


@pytest.fixture(scope="module")
def first_stage(tiny: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the number of room {number}?"},
                {"role": "assistant", "content": f"It is {number * 7}, as the handbook says."},
            ]
        }
        for number in range(12)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(it) + "\n" for it in rows))
    settings = TrainingSettings(n_epochs=1, batch_size=4, learning_rate=5e-3, beta=0.1, lora=SHAPE)
    plan = TrainingPlan(Stage.SUPERVISED, tiny, "tiny-base", folder / "rows.jsonl", folder / "work", settings)
    adapter: Path = trained(plan).adapter
    return adapter


@pytest.fixture
def supervised(first_stage: Path, tmp_path: Path) -> Path:
    """The adapter of a first stage, to read or to spoil."""
    return Path(shutil.copytree(first_stage, tmp_path / "supervised"))


@pytest.mark.parametrize("stage", [Stage.DPO, Stage.KTO, Stage.SUPERVISED], ids=lambda it: it.value)
def test_a_later_stage_goes_on_with_the_same_tensors(
    stage: Stage, supervised: Path, plans: Plans, trained: Trained, tiny: Path
) -> None:
    import torch

    # The shape is the adapter's own; of what the plan says, only the rank must agree.
    run = trained(plans(stage, start_adapter=supervised, settings={"lora": LoraShape(rank=4), "learning_rate": 1e-4}))
    before, after = tensors(supervised), tensors(run.adapter)
    assert before.keys() == after.keys()
    # Two small steps: each tensor is near where it was, and none is where a new adapter would begin.
    for name, tensor in after.items():
        assert 0 < (tensor - before[name]).abs().max() < 1e-3, name
    base, first, second = (logits(tiny, it) for it in (None, supervised, run.adapter))
    assert (first - base).abs().max() > 1e-2
    assert 0 < (second - first).abs().max() < (second - base).abs().max()
    assert torch.isfinite(second).all()


def test_the_reference_is_the_stage_before_and_not_the_base(supervised: Path, plans: Plans, trained: Trained) -> None:
    """At the first step the policy is its reference: were that the base, preferences would be far from even."""
    run = trained(plans(Stage.DPO, start_adapter=supervised, settings={"lora": SHAPE, "learning_rate": 1e-4}))
    assert run.curve()[1] == pytest.approx(0.6931, abs=1e-4)
    assert run.curve("margin")[1] == pytest.approx(0.0, abs=1e-4)
    assert run.curve("reward_chosen")[1] == pytest.approx(0.0, abs=1e-4)
    rewarded = trained(plans(Stage.KTO, start_adapter=supervised, settings={"lora": SHAPE, "learning_rate": 1e-4}))
    assert rewarded.curve("reward_chosen")[1] == pytest.approx(0.0, abs=1e-4)


def test_the_reference_stays_as_it_was(supervised: Path, plans: Plans, tiny: Path) -> None:
    import torch

    from services.finetuning.trainer.loop import Session
    from services.finetuning.trainer.process import PauseWish
    from services.finetuning.trainer.run import material_for
    from services.finetuning.trainer.stages import build

    plan = plans(Stage.DPO, start_adapter=supervised, settings={"lora": SHAPE, "learning_rate": 1e-2})
    material = material_for(plan)
    trainer = build(Session(plan, lambda _: None, PauseWish()), material.hardware, material.tokenizer, material.tokens)
    trainer.train()
    parameters = dict(trainer.model.cpu().named_parameters())
    kept = tensors(supervised)
    trained_on = [name for name, it in parameters.items() if it.requires_grad]
    assert trained_on
    assert all(".default." in name for name in trained_on)
    for name in trained_on:
        was = kept[name.replace(".default.", ".")]
        assert torch.equal(parameters[name.replace(".default.", ".ref.")], was)
        assert not torch.equal(parameters[name], was)


def test_another_rank_is_refused(supervised: Path, plans: Plans, trained: Trained) -> None:
    with pytest.raises(Refused, match=r"^lora\.rank: 8 is not allowed; .* has 4") as caught:
        trained(plans(Stage.DPO, start_adapter=supervised, settings={"lora": LoraShape(rank=8)}))
    assert caught.value.code is FailureCode.INVALID_SETTING


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"use_dora": false', '"use_dora": true'),
        ('"bias": "none"', '"bias": "all"'),
        ('"peft_type": "LORA"', '"peft_type": "IA3"'),
        ('"r": 4', '"r": "4"'),
        ('"modules_to_save": null', '"modules_to_save": ["lm_head"]'),
        ('"rank_pattern": {}', '"rank_pattern": {"q_proj": 2}'),
    ],
)
def test_an_adapter_that_is_not_plain_is_refused(supervised: Path, old: str, new: str) -> None:
    from services.finetuning.trainer.model import adapter_shape

    config = supervised / "adapter_config.json"
    assert adapter_shape(supervised).rank == 4
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(Refused) as caught:
        adapter_shape(supervised)
    assert caught.value.code is FailureCode.INVALID_MODEL


def test_tensors_that_do_not_fit_are_refused(supervised: Path, plans: Plans, trained: Trained, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    whole = tensors(supervised)
    for name, part, reason in (
        ("narrow", {key: it[:, :3].contiguous() for key, it in whole.items()}, "do not fit"),
        ("half", {key: it for key, it in whole.items() if "lora_A" in key}, "other layers"),
    ):
        other = tmp_path / name
        shutil.copytree(supervised, other)
        save_file(part, other / "adapter_model.safetensors")
        with pytest.raises(Refused, match=reason):
            trained(plans(Stage.DPO, start_adapter=other, settings={"lora": SHAPE}))
