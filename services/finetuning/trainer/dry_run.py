"""Measures a few steps on the plan's own rows, so that a job's time and memory are known before it begins."""

import dataclasses
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback

from services.finetuning.domain.training import Stage, TrainingPlan
from services.finetuning.domain.training_messages import DryRun
from services.finetuning.trainer.judging import judge_row, open_judge
from services.finetuning.trainer.loop import Session
from services.finetuning.trainer.process import PauseWish
from services.finetuning.trainer.rewards import Grader
from services.finetuning.trainer.rows import TokenRows, rows_of
from services.finetuning.trainer.run import Material, calm_libraries, material_for
from services.finetuning.trainer.stages import build

__all__ = ["measure", "sampled_places"]

# One step to warm up, one of typical rows, one of the longest: the last two are measured.
_STEPS: Final = 3
# An evaluated token costs a forward pass: a third of what a trained one costs.
_EVALUATED_COST: Final = 1 / 3
# Evaluations of a whole training where nothing else is said (see the loop).
_EVALUATIONS: Final = 10
# Prompts that are judged to know what one takes.
_JUDGED: Final = 2


def measure(plan: TrainingPlan, *, budget_s: float, grader: Grader | None = None) -> DryRun:
    """Return what a few steps showed. Nothing is written.

    Args:
        plan: What would be trained.
        budget_s: Seconds after which no further step is begun; one step is always taken.
        grader: Scores answers (RLHF without a reward model).

    Raises:
        Refused: The plan could not be trained.
    """
    began = time.perf_counter()
    calm_libraries()
    material = material_for(plan)
    read_s = time.perf_counter() - began
    judging_s, tokens = _judged(plan, material) if plan.stage is Stage.RLAIF else (0.0, material.tokens)
    judged = time.perf_counter()
    batch = min(plan.settings.batch_size, len(tokens))
    settings = dataclasses.replace(plan.settings, n_epochs=1, max_steps=_STEPS, batch_size=batch)
    some = tokens.chosen(sampled_places(tokens.lengths, batch, _STEPS))
    with tempfile.TemporaryDirectory(prefix="dry-run-") as work:
        small = dataclasses.replace(plan, settings=settings, work=Path(work))
        session = Session(small, lambda _: None, PauseWish(), fixed_order=True, quiet=True)
        trainer = build(session, material.hardware, material.tokenizer, some, None, grader)
        loading_s = time.perf_counter() - judged
        trainer.add_callback(_Budget(budget_s))
        trainer.train()
    return _estimate(plan, material, session.times, read_s + loading_s, judging_s)


def sampled_places(lengths: Sequence[int], batch: int, steps: int) -> list[int]:
    """Return places of rows for a few steps: typical ones first, spread over all lengths, and the longest last."""
    by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
    typical = [by_length[(2 * number + 1) * len(by_length) // (2 * batch)] for number in range(batch)]
    return typical * (steps - 1) + by_length[-batch:]


class _Budget(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Ends the measuring when its time is up."""

    def __init__(self, budget_s: float) -> None:
        self._ends = time.perf_counter() + budget_s

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop when time is up."""
        control.should_training_stop = control.should_training_stop or time.perf_counter() > self._ends


def _judged(plan: TrainingPlan, material: Material) -> tuple[float, TokenRows]:
    """Return the seconds that judging all prompts would take, and pairs as they will be trained on."""
    judge, model = open_judge(plan, material.hardware, material.tokenizer)
    began = time.perf_counter()
    rows = material.rows[:_JUDGED]
    pairs = [
        pair
        for number, row in enumerate(rows)
        for pair in judge_row(plan, judge, model, material.tokenizer, material.renderer, row, number)
    ]
    each_s = (time.perf_counter() - began) / len(rows)
    drawn = [_as_preference(row, pair) for row, pair in zip(rows, pairs, strict=False)]
    tokens = rows_of(Stage.DPO, drawn, material.renderer, plan.settings)
    return each_s * len(material.rows), tokens


def _as_preference(row: Mapping[str, Any], pair: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pair as a row, whichever answer is the better: only its length matters here, so they are made to differ."""
    return {
        "input": {"messages": row["messages"]},
        "preferred_output": [{"role": "assistant", "content": f"{pair['first']}."}],
        "non_preferred_output": [{"role": "assistant", "content": f"{pair['second']}?"}],
    }


def _estimate(
    plan: TrainingPlan,
    material: Material,
    times: Sequence[tuple[float, int]],
    loading_s: float,
    judging_s: float,
) -> DryRun:
    settings, counts = plan.settings, material.tokens.counts
    measured = times[1:] or times
    tokens_per_s = sum(tokens for _, tokens in measured) / sum(took for took, _ in measured)
    typical_s = measured[0][0]
    steps = settings.n_epochs * -(-counts.rows // settings.batch_size)
    share = 1.0
    if 0 < settings.max_steps < steps:
        steps, share = settings.max_steps, settings.max_steps / steps
    if plan.stage.samples:
        # A step draws its answers anew: tokens are known only when they are there.
        total_tokens = int(statistics.mean(tokens for _, tokens in measured) * steps)
        training_s = typical_s * steps
    else:
        total_tokens = int(counts.tokens * settings.n_epochs * share)
        training_s = total_tokens / tokens_per_s
    held_out = material.held_out.counts.tokens if material.held_out else 0
    times_evaluated = steps / settings.evaluate_every if settings.evaluate_every else min(steps, _EVALUATIONS)
    evaluating_s = held_out / tokens_per_s * _EVALUATED_COST * times_evaluated
    read = counts.tokens + counts.truncated_tokens
    return DryRun(
        rows=counts.rows,
        rows_without_labels=counts.without_labels,
        tokens_per_row=counts.tokens / counts.rows,
        longest_row=counts.longest,
        masked_share=counts.masked_tokens / counts.tokens,
        truncated_share=counts.truncated_tokens / read,
        tokens_per_s=tokens_per_s,
        seconds_per_step=typical_s,
        peak_memory_bytes=_peak_memory(cuda=material.hardware.cuda),
        total_steps=steps,
        total_tokens=total_tokens,
        estimated_s=loading_s + judging_s + training_s + evaluating_s,
    )


def _peak_memory(*, cuda: bool) -> int:
    if cuda:
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
