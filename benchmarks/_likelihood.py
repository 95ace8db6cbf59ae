"""What an adapter makes of held-out rows: losses, likelihoods of answers, scores of a reward model, a judge's preferences.

Nothing is sampled here, and nothing of the trainer's own loop is used: base model and adapter are loaded as anybody would.
"""

import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from services.finetuning.trainer.judging import Judge
from services.local.child import ChildStack

__all__ = ["Likelihoods", "Scores", "Turns", "adapter_folder", "judge", "reward_folder"]

Turns = Sequence[Mapping[str, Any]]


class Likelihoods:
    """The base model with one adapter, or without.

    Args:
        base: The base model's folder.
        adapter: The adapter's folder; None for the base alone.
    """

    def __init__(self, base: Path, adapter: Path | None) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self._model = (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()

    def text_loss(self, text: str) -> float:
        """Return the mean loss of a text's tokens, nats."""
        ids = self._tokenizer(text)["input_ids"]
        return -self._sum(ids, 1) / (len(ids) - 1)

    def answer(self, turns: Turns, answer: str) -> tuple[float, int]:
        """Return the log-likelihood of an answer with its end, nats, and its number of tokens."""
        asked = self._tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
        said = self._tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": answer}], tokenize=False
        ).rstrip("\n")
        ids = self._tokenizer(said, add_special_tokens=False)["input_ids"]
        first = len(self._tokenizer(asked, add_special_tokens=False)["input_ids"])
        return self._sum(ids, first), len(ids) - first

    def margin(self, row: Mapping[str, Any]) -> float:
        """Return by how much the preferred answer of a pair is likelier than the other, nats."""
        turns = row["input"]["messages"]
        return (
            self.answer(turns, row["preferred_output"][0]["content"])[0]
            - self.answer(turns, row["non_preferred_output"][0]["content"])[0]
        )

    def _sum(self, ids: Sequence[int], first: int) -> float:
        with torch.no_grad():
            logits = self._model(torch.tensor([list(ids)])).logits[0, first - 1 : -1].float()
        told = torch.tensor(list(ids[first:]))
        return float(logits.log_softmax(-1).gather(1, told[:, None]).sum())


class Scores:
    """A reward model.

    Args:
        folder: Its folder.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32
        ).eval()

    def score(self, turns: Turns, answer: str) -> float:
        """Return the score of an answer."""
        text = self._tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": answer}], tokenize=False)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return float(self._model(torch.tensor([ids])).logits[0, 0])

    def margin(self, row: Mapping[str, Any]) -> float:
        """Return by how much the preferred answer of a pair scores higher."""
        turns = row["input"]["messages"]
        return self.score(turns, row["preferred_output"][0]["content"]) - self.score(
            turns, row["non_preferred_output"][0]["content"]
        )


def judge(base: Path, adapter: Path, constitution: str) -> Callable[[Turns, str, str], float]:
    """Return RLAIF's judge, the base model without the adapter: by how much it prefers the first of two answers, nats."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    return Judge(model, tokenizer, constitution, "", 2048).prefers_first


def adapter_folder(stack: ChildStack, digest: str) -> Path:
    """Return where the engine of a stack keeps an adapter's files.

    Raises:
        SystemExit: It is not there.
    """
    for config in stack.state_dir.rglob("adapter_config.json"):
        if digest.removeprefix("sha256:") in config.parent.name:
            return config.parent
    raise SystemExit(f"the engine keeps no adapter {digest}")


@contextmanager
def reward_folder(stack: ChildStack, job_id: str) -> Iterator[Path]:
    """Yield the files of the reward model that a job made.

    Raises:
        SystemExit: There are none.
    """
    found = next(stack.state_dir.rglob(f"{job_id}/reward-model.tar"), None)
    if found is None:
        raise SystemExit(f"{job_id} made no reward model")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(found) as packed:
        packed.extractall(folder, filter="data")
        yield Path(folder)
