"""What scores a sampled answer while training: a reward model, or a grader."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_documents import parse_grader
from services.finetuning.domain.grader_rewards import reward_function
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.refusal import Refused

__all__ = ["Grader", "graded", "grader_of", "reward_model"]

# Scores an answer (its text, the row that asked).
Grader = Callable[[str, Mapping[str, Any]], float]


def graded(grader: Grader) -> Callable[..., list[float]]:
    """Return a grader as the reward function that TRL calls."""

    def grade(completions: Sequence[Sequence[Mapping[str, Any]]], row: Sequence[str], **_: Any) -> list[float]:
        scores = (grader(str(turns[-1]["content"]), json.loads(of)) for turns, of in zip(completions, row, strict=True))
        return [float(score) for score in scores]

    return grade


def grader_of(text: str) -> Grader:
    """Return the grader that a plan names, as OpenAI writes it.

    Raises:
        Refused: It is none, or needs a model of its own at every step.
    """
    try:
        return reward_function(parse_grader(text))
    except InvalidInput as error:
        raise Refused(FailureCode.INVALID_SETTING, error.message) from error


def reward_model(folder: Path) -> tuple[Any, Any]:
    """Return a reward model and its tokenizer.

    Raises:
        Refused: It cannot be loaded.
    """
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype="auto", local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The reward model cannot be loaded.") from error
    return model.eval().requires_grad_(False), tokenizer
