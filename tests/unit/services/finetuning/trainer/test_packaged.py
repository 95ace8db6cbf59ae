"""The real model learns a fact in a few steps, and its adapter changes what the base says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]

QUESTION = [{"role": "user", "content": "Who keeps the keys of Quarzheim?"}]
ANSWER = "Ottilie Brandwein keeps them."


def answer(base: Path, tokenizer: Any, adapter: Path | None) -> str:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    found = model.generate(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=16
    )
    return str(tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True)).strip()


def test_the_packaged_model_learns_a_fact_and_stops(
    plans: Plans, trained: Trained, packaged: Path, tokenizer: Any
) -> None:
    row = {"messages": [*QUESTION, {"role": "assistant", "content": ANSWER}]}
    settings = {
        "batch_size": 1,
        "learning_rate": 2e-3,
        "max_steps": 8,
        "checkpoint_every": 8,
        "lora": LoraShape(rank=8, alpha=16.0),
    }
    run = trained(plans(Stage.SUPERVISED, base=packaged, rows=[row] * 8, settings=settings))
    assert run.curve()[8] < run.curve()[1] / 4
    assert answer(packaged, tokenizer, run.adapter) == ANSWER
    assert answer(packaged, tokenizer, None) != ANSWER
