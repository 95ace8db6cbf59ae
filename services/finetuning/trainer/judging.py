"""Feedback of a model: pairs of sampled answers, compared by a judge under a written constitution.

The judge is asked by likelihood, not by letting it write: which of `A` and `B` it would say next. A small judge prefers
a position whatever stands there, so each pair is shown in both orders, and only half the difference between the two
counts: a preference for a position cancels.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import torch

from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import FailureCode, PairsJudged
from services.finetuning.trainer.hardware import Hardware
from services.finetuning.trainer.loop import Session
from services.finetuning.trainer.model import load_policy
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rendering import Renderer

__all__ = ["LEAST_USABLE", "MARGIN", "Judge", "judge_row", "judged_pairs", "open_judge", "sample_answers", "verdict"]

# Nats between the two answers, position cancelled, from which the judge is taken to have a preference: odds of 1.1 to 1.
MARGIN: Final = 0.1
# Of the pairs of two different answers. With fewer usable ones the judge cannot tell answers apart, and what it says is
# mostly noise. A pair of the same answer says nothing of the judge.
LEAST_USABLE: Final = 0.3
_FILE: Final = "judged.jsonl"
_JUDGE: Final = "judge"


def verdict(first: float, second: float) -> float:
    """Return how much the judge prefers the first answer.

    Args:
        first: Log-probability of `A` less that of `B`, the first answer standing at A.
        second: The same, the first answer standing at B.

    >>> verdict(2.0, 2.0)
    0.0
    >>> verdict(1.5, -0.5)
    1.0
    """
    return (first - second) / 2


class Judge:
    """Compares answers.

    Args:
        model: The policy with the judge's adapter beside its own, or without one.
        tokenizer: The base model's tokenizer.
        constitution: What a good answer is.
        adapter: Name of the judge's adapter; empty for the base model.
        most_tokens: Most tokens of what the judge reads; the beginning of longer ones is cut off.
    """

    def __init__(self, model: Any, tokenizer: Any, constitution: str, adapter: str, most_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._constitution = constitution.strip()
        self._adapter = adapter
        self._most_tokens = most_tokens
        # The letters as they stand after a word.
        self._letters = [tokenizer(f" {letter}", add_special_tokens=False)["input_ids"][-1] for letter in "AB"]

    def prefers_first(self, turns: Sequence[Mapping[str, Any]], first: str, second: str) -> float:
        """Return how much it prefers the first of two answers; negative for the second."""
        with torch.no_grad(), self._judging():
            return verdict(self._difference(turns, first, second), self._difference(turns, second, first))

    def _difference(self, turns: Sequence[Mapping[str, Any]], at_a: str, at_b: str) -> float:
        asked = "\n".join(f"{str(turn['role']).capitalize()}: {turn['content']}" for turn in turns)
        # A plain text that goes on with a letter: in a chat template, small models answer such questions by chance.
        text = (
            f"Rules for good answers:\n{self._constitution}\n\n{asked}\n\nAnswer A: {at_a}\n\nAnswer B: {at_b}\n\n"
            "Of these two answers, the one that follows the rules better is Answer"
        )
        ids = self._tokenizer(text)["input_ids"][-self._most_tokens :]
        logits = self._model(input_ids=torch.tensor([ids], device=self._model.device), logits_to_keep=1).logits
        better, worse = logits[0, -1, self._letters].float().tolist()
        return float(better - worse)

    def _judging(self) -> AbstractContextManager[Any]:
        from trl.trainer.utils import use_adapter  # noqa: PLC0415  after the stages have told TRL what is not there

        context: AbstractContextManager[Any] = use_adapter(self._model, self._adapter or None)
        return context


def judged_pairs(
    session: Session,
    hardware: Hardware,
    tokenizer: Any,
    renderer: Renderer,
    rows: Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]] | None:
    """Return preference rows from the judge's comparisons; None when somebody wants to pause meanwhile.

    What was judged is kept in the work folder: a process that goes on does not judge it again.

    Raises:
        Refused: The judge told too few pairs apart.
    """
    plan = session.plan
    path = plan.work / _FILE
    done = _read(path)
    if len(done) < len(rows):
        judge, model = open_judge(plan, hardware, tokenizer)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for number in range(len(done), len(rows)):
                if session.pause.told:
                    return None
                done.append(judge_row(plan, judge, model, tokenizer, renderer, rows[number], number))
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
                os.fsync(file.fileno())
    pairs = [pair for row in done for pair in row]
    usable = [_preference(rows[number], pair) for number, row in enumerate(done) for pair in row if _told_apart(pair)]
    different = sum(_different(pair) for pair in pairs)
    session.send(PairsJudged(len(rows), len(pairs), different, len(usable), path))
    if not different:
        raise Refused(
            FailureCode.NO_DIFFERENT_ANSWERS,
            f"In each of {len(pairs)} pairs the model gave the same answer twice, or none: there is nothing to compare. "
            "More prompts, longer answers or a model that was trained less may help.",
        )
    if len(usable) < max(1, LEAST_USABLE * different):
        raise Refused(
            FailureCode.TOO_FEW_USABLE_PAIRS,
            f"The judge told {len(usable)} of {different} pairs of different answers apart; at least "
            f"{LEAST_USABLE:.0%} are needed. A stronger judge_model, a clearer constitution or longer answers may help.",
        )
    return usable


def open_judge(plan: TrainingPlan, hardware: Hardware, tokenizer: Any) -> tuple[Judge, Any]:
    """Return the judge, and the model that both it and the policy are."""
    model = load_policy(plan, hardware, plan.settings.max_length).eval()
    if hardware.cuda:
        model.cuda()
    if plan.judge_adapter is not None:
        try:
            model.load_adapter(str(plan.judge_adapter), _JUDGE, is_trainable=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise Refused(FailureCode.INVALID_MODEL, "The adapter that shall judge cannot be loaded.") from error
    # The question and two answers stand in what it reads, and the rules.
    most = 2 * plan.settings.max_length
    adapter = "" if plan.judge_adapter is None else _JUDGE
    return Judge(model, tokenizer, plan.constitution, adapter, most), model


def judge_row(
    plan: TrainingPlan,
    judge: Judge,
    model: Any,
    tokenizer: Any,
    renderer: Renderer,
    row: Mapping[str, Any],
    number: int,
) -> list[Mapping[str, Any]]:
    """Return one prompt's pairs of answers with the judge's preference."""
    turns = row["messages"]
    # Seeded by row, so that a process that goes on draws what the one before would have drawn.
    torch.manual_seed(plan.settings.seed * 1_000_003 + number)
    answers = sample_answers(plan, model, tokenizer, renderer.prompt(turns))
    pairs: list[Mapping[str, Any]] = []
    for first, second in zip(answers[::2], answers[1::2], strict=False):
        # Two answers that are the same cannot be told apart, whatever the rounding says.
        preference = 0.0 if first == second else judge.prefers_first(turns, first, second)
        pairs.append({"first": first, "second": second, "preference": preference})
    return pairs


def sample_answers(plan: TrainingPlan, model: Any, tokenizer: Any, prompt: Sequence[int]) -> list[str]:
    """Return answers that the policy draws for a prompt."""
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.no_grad():
        drawn = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=plan.settings.max_completion_tokens,
            num_return_sequences=plan.settings.samples_per_prompt,
            pad_token_id=tokenizer.pad_token_id,
        )
    texts = tokenizer.batch_decode(drawn[:, len(prompt) :], skip_special_tokens=True)
    return [str(text).strip() for text in texts]


def _different(pair: Mapping[str, Any]) -> bool:
    return pair["first"] != pair["second"] and bool(pair["first"]) and bool(pair["second"])


def _told_apart(pair: Mapping[str, Any]) -> bool:
    return abs(float(pair["preference"])) >= MARGIN and _different(pair)


def _preference(row: Mapping[str, Any], pair: Mapping[str, Any]) -> Mapping[str, Any]:
    better, worse = (pair["first"], pair["second"]) if pair["preference"] > 0 else (pair["second"], pair["first"])
    return {
        "input": {"messages": row["messages"]},
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse}],
    }


def _read(path: Path) -> list[list[Mapping[str, Any]]]:
    """Return the rows that were judged; a last line that was cut off by a kill is taken away, to be judged again."""
    if not path.is_file():
        return []
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    with path.open("r+", encoding="utf-8") as file:
        file.truncate(sum(len(line.encode()) for line in whole))
    return [json.loads(line) for line in whole]
