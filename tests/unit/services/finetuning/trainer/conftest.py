"""A model small enough to train in a second, with the packaged model's own tokenizer and chat template."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from services.chassis.models.folder import open_model, user_cache
from services.finetuning.domain.training import Stage, TrainingPlan, TrainingSettings
from services.finetuning.domain.training_messages import Finished, Message

Row = dict[str, Any]
Plans = Callable[..., TrainingPlan]


@pytest.fixture(scope="session")
def packaged() -> Path:
    return asyncio.run(open_model("packaged", cache=user_cache())).folder


@pytest.fixture(scope="session")
def tiny(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two narrow layers with random weights."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    AutoTokenizer.from_pretrained(packaged).save_pretrained(folder)
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.1,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(packaged: Path) -> Any:
    from services.finetuning.trainer.model import load_tokenizer

    return load_tokenizer(packaged)


@pytest.fixture(scope="session")
def renderer(tokenizer: Any, packaged: Path) -> Any:
    from services.finetuning.trainer.model import renderer_for

    return renderer_for(tokenizer, packaged)


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """Leave the libraries' logging as it was: training turns it down for its own process."""
    from transformers import logging

    level = logging.get_verbosity()
    yield
    logging.set_verbosity(level)


def chat(number: int) -> Row:
    return {
        "messages": [
            {"role": "user", "content": f"What is the number of room {number}?"},
            {"role": "assistant", "content": f"It is {number * 7}, as the handbook says{', in short' * (number % 5)}."},
        ],
        "brain": {"documents": [f"doc_{number}"]},
    }


def preference(number: int) -> Row:
    return {
        "input": {"messages": chat(number)["messages"][:1]},
        "preferred_output": [{"role": "assistant", "content": f"It is {number * 7}."}],
        "non_preferred_output": [{"role": "assistant", "content": "No idea, my friend; ask somebody else, please."}],
    }


def row(stage: Stage, number: int) -> Row:
    match stage:
        case Stage.CONTINUED_PRETRAINING:
            return {"text": f"Room {number} has the number {number * 7} written on its door. " * 4}
        case Stage.SUPERVISED | Stage.RAFT:
            return chat(number)
        case Stage.KTO:
            return {**chat(number), "label": number % 3 > 0}
        case Stage.DPO | Stage.REWARD_MODEL:
            return preference(number)
        case Stage.RLHF | Stage.RLAIF:
            return {"messages": chat(number)["messages"][:1], "reference": str(number * 7)}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(it) + "\n" for it in rows))
    return path


@pytest.fixture
def plans(tiny: Path, tmp_path: Path) -> Plans:
    """Makes plans on the small model: two steps with four rows each, unless told otherwise."""
    count = 0

    def make(
        stage: Stage,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        held_out: Sequence[Mapping[str, Any]] | None = None,
        base: Path = tiny,
        settings: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> TrainingPlan:
        nonlocal count
        count += 1
        folder = tmp_path / f"job-{count}"
        chosen = TrainingSettings(
            n_epochs=1, batch_size=4, learning_rate=5e-3, beta=0.1, max_length=128, max_steps=2, seed=11
        )
        chosen = replace(
            chosen,
            **{"samples_per_prompt": 2, "max_completion_tokens": 6, "checkpoint_every": 1} | dict(settings or {}),
        )
        if stage is Stage.RLAIF:
            more.setdefault("constitution", "Say the number, and be brief.")
        return TrainingPlan(
            stage=stage,
            base_folder=base,
            base_name="tiny-base",
            rows=write_rows(folder / "rows.jsonl", rows or [row(stage, number) for number in range(12)]),
            validation_rows=write_rows(folder / "held-out.jsonl", held_out) if held_out else None,
            work=folder / "work",
            settings=chosen,
            **more,
        )

    return make


@dataclass
class Run:
    """What a training said, and how it ended."""

    messages: list[Message]
    last: Message

    def of(self, kind: type[Any]) -> list[Any]:
        return [it for it in self.messages if isinstance(it, kind)]

    @property
    def finished(self) -> Finished:
        assert isinstance(self.last, Finished)
        return self.last

    @property
    def adapter(self) -> Path:
        assert self.finished.adapter_folder is not None
        return self.finished.adapter_folder

    def curve(self, name: str = "loss") -> dict[int, float]:
        from services.finetuning.domain.training_messages import Metrics

        return {it.step: it.values[name] for it in self.of(Metrics) if name in it.values}


@pytest.fixture(scope="session")
def trained() -> Callable[..., Run]:
    """Trains a plan in this process."""

    def run(plan: TrainingPlan, **more: Any) -> Run:
        from services.finetuning.trainer.run import train

        messages: list[Message] = []
        return Run(messages, train(plan, send=messages.append, **more))

    return run
