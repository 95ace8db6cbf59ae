"""A bare TRL script, as its documentation would have it: what the trainer of a job is compared with, and a common evaluator.

`python -m benchmarks._trl_script train|evaluate ORDER.json` prints one JSON object as its last line. It stands alone: nothing
of the product is imported.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Takes the time from the first step's beginning to the last one's end."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with the first step."""
        self.began = self.began or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End with the last."""
        self.ended = time.perf_counter()


def train(order: dict[str, Any]) -> dict[str, Any]:
    """Train with TRL's defaults but for what the order says, and save the adapter."""
    rows = [json.loads(line) for line in Path(order["rows"]).read_text().splitlines()]
    dataset = Dataset.from_list([{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows])
    config = SFTConfig(
        output_dir=order["out"],
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        **order["config"],
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=order["base"],
        args=config,
        train_dataset=dataset,
        peft_config=LoraConfig(
            r=order["rank"], lora_alpha=order["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(order["out"])
    return {
        "seconds": clock.ended - clock.began,
        "steps": trainer.state.global_step,
        "bf16": bool(config.bf16),
        "gradient_checkpointing": bool(config.gradient_checkpointing),
    }


def evaluate(order: dict[str, Any]) -> dict[str, Any]:
    """Return the mean loss of the answers' tokens of the order's rows."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(order["base"])
    model = AutoModelForCausalLM.from_pretrained(order["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(model, order["adapter"]).to(device).eval()
    total, tokens = 0.0, 0
    for line in Path(order["rows"]).read_text().splitlines():
        turns = json.loads(line)["messages"]
        asked = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        said = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
        first = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(said, add_special_tokens=False)["input_ids"]], device=device)
        with torch.no_grad():
            logits = model(ids).logits[0, first - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, first:], reduction="sum"))
        tokens += ids.shape[1] - first
    return {"loss": total / tokens, "tokens": tokens}


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps({"train": train, "evaluate": evaluate}[sys.argv[1]](asked)))
