"""Carries out one plan: reads its rows, trains, and puts the result in its place."""

import gc
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import logging as transformers_logging

from services.finetuning.domain.training import Stage, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode, Finished, Message, Paused
from services.finetuning.trainer.checkpoints import clear_unfinished, publish
from services.finetuning.trainer.hardware import Hardware, hardware_for
from services.finetuning.trainer.judging import judged_pairs
from services.finetuning.trainer.loop import Session
from services.finetuning.trainer.model import load_tokenizer, renderer_for, save_adapter, save_merged
from services.finetuning.trainer.process import PauseWish, Send
from services.finetuning.trainer.rendering import Renderer
from services.finetuning.trainer.rewards import Grader
from services.finetuning.trainer.rows import TokenRows, read_rows, rows_of
from services.finetuning.trainer.stages import build

__all__ = ["Material", "material_for", "out_of_memory", "train"]

_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Material:
    """What a plan works on.

    Attributes:
        hardware: Where and how to compute.
        tokenizer: The base model's.
        renderer: Makes tokens of conversations.
        rows: The training file's rows as they stand.
        tokens: The same as tokens.
        held_out: The validation file's rows as tokens.
    """

    hardware: Hardware
    tokenizer: Any
    renderer: Renderer
    rows: Sequence[Mapping[str, Any]]
    tokens: TokenRows
    held_out: TokenRows | None


def material_for(plan: TrainingPlan) -> Material:
    """Return what a plan works on, read and turned into tokens.

    Raises:
        Refused: The rows or the base model cannot be used.
    """
    hardware = hardware_for(plan)
    tokenizer = load_tokenizer(plan.base_folder)
    renderer = renderer_for(tokenizer, plan.base_folder)
    rows = read_rows(plan.rows, FailureCode.INVALID_TRAINING_FILE)
    tokens = rows_of(plan.stage, rows, renderer, plan.settings)
    held_out = None
    # Answers that a judge has not seen are not compared: RLAIF has no held-out rows.
    if plan.validation_rows is not None and plan.stage is not Stage.RLAIF:
        code = FailureCode.INVALID_VALIDATION_FILE
        held_out = rows_of(plan.stage, read_rows(plan.validation_rows, code), renderer, plan.settings, code=code)
    return Material(hardware, tokenizer, renderer, rows, tokens, held_out)


def train(
    plan: TrainingPlan,
    *,
    send: Send,
    resume: Path | None = None,
    pause: PauseWish | None = None,
    grader: Grader | None = None,
) -> Message:
    """Train, tell what happens, and return the last message: finished or paused; it has been sent.

    The same plan with the same seed on the same machine's CPU gives the same losses.

    Args:
        plan: What to train.
        send: Tells the parent.
        resume: Checkpoint to go on from.
        pause: Whether somebody wants it to stop.
        grader: Scores answers (RLHF without a reward model).

    Raises:
        Refused: It cannot go on.
    """
    session = Session(plan, send, pause or PauseWish())
    calm_libraries()
    clear_unfinished(plan.checkpoints)
    clear_unfinished(plan.work)
    material = material_for(plan)
    tokens = material.tokens
    send(tokens.counts)
    if plan.stage is Stage.RLAIF:
        pairs = judged_pairs(session, material.hardware, material.tokenizer, material.renderer, material.rows)
        if pairs is None:
            return _told(send, Paused(0))
        gc.collect()
        tokens = rows_of(Stage.DPO, pairs, material.renderer, plan.settings)
    trainer = build(session, material.hardware, material.tokenizer, tokens, material.held_out, grader)
    if session.pause.told:
        return _told(send, Paused(0, resume))
    trainer.go_on(resume)
    step = int(trainer.state.global_step)
    if session.stopped:
        return _told(send, Paused(step, plan.checkpoint(step)))
    return _told(send, _finished(session, trainer, material.tokenizer, step))


def calm_libraries() -> None:
    """Keep libraries' advice and progress bars out of the log."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Advice to users of the libraries; nothing that a training of ours could heed while it runs.
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|peft|accelerate|datasets)\b")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)


def _finished(session: Session, trainer: Any, tokenizer: Any, step: int) -> Finished:
    plan = session.plan
    tokens, metrics = trainer.trained_tokens(), dict(session.latest)
    if plan.stage.makes_adapter:
        folder = publish(plan.result, lambda place: save_adapter(trainer.model, place, plan.base_name))
        return Finished(step, tokens, metrics, adapter_folder=folder)
    folder = publish(plan.result, lambda place: save_merged(trainer.model, place, tokenizer))
    return Finished(step, tokens, metrics, reward_model_folder=folder)


def _told(send: Send, message: Message) -> Message:
    send(message)
    return message
