"""What a training process says while it works: one message a line, as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

__all__ = [
    "CheckpointSaved",
    "DryRun",
    "Failed",
    "FailureCode",
    "Finished",
    "Message",
    "Metrics",
    "PairsJudged",
    "Paused",
    "RowsRead",
    "Started",
    "decode",
    "encode",
]


class FailureCode(StrEnum):
    """Why training could not go on."""

    INVALID_TRAINING_FILE = "invalid_training_file"
    INVALID_VALIDATION_FILE = "invalid_validation_file"
    INVALID_MODEL = "invalid_model"
    INVALID_SETTING = "invalid_setting"
    LOSS_NOT_FINITE = "loss_not_finite"
    NO_DIFFERENT_ANSWERS = "no_different_answers"
    TOO_FEW_USABLE_PAIRS = "too_few_usable_pairs"
    OUT_OF_MEMORY = "out_of_memory"
    TRAINING_FAILED = "training_failed"

    @property
    def is_callers(self) -> bool:
        """Whether another request, with other rows or settings, would go well."""
        return self is not FailureCode.TRAINING_FAILED


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The rows were read and turned into tokens.

    Attributes:
        rows: Rows that are trained on.
        without_labels: Rows left out, because nothing in them would be learnt.
        tokens: Tokens of one pass over the rows.
        masked_tokens: Those that the model reads and is not trained to write.
        truncated_tokens: Tokens beyond the longest row allowed, which were cut off.
        longest: Tokens of the longest row.
    """

    rows: int
    without_labels: int
    tokens: int
    masked_tokens: int
    truncated_tokens: int
    longest: int


@dataclass(frozen=True, slots=True)
class Started:
    """Training begins, or goes on after `step` steps."""

    total_steps: int
    trainable_parameters: int
    checkpoint_every: int
    evaluate_every: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one step, or one evaluation after it, measured.

    `values` holds, where they apply: loss, learning_rate, grad_norm, tokens (trained on so far, padding left out),
    tokens_per_s, mean_token_accuracy, reward, reward_std, accuracy, margin, kl, completion_length; those of the
    held-out rows begin with `valid_`.
    """

    step: int
    epoch: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A state that training can go on from lies in `folder`; the adapter in it can be served, a reward model has none."""

    step: int
    folder: Path
    adapter_folder: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairsJudged:
    """How many of the sampled pairs hold two different answers, and how many of those the judge told apart (RLAIF)."""

    prompts: int
    pairs: int
    different: int
    usable: int
    path: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """Training is done; one of the two folders is set."""

    step: int
    trained_tokens: int
    metrics: Mapping[str, float]
    adapter_folder: Path | None = None
    reward_model_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """Training stopped when it was asked to, and goes on from `folder`; None when nothing was trained yet."""

    step: int
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Training ended without a result. `message` names rows by number and never quotes them."""

    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a few steps on the plan's own rows showed.

    Attributes:
        rows: Rows that would be trained on.
        rows_without_labels: Rows that would be left out.
        tokens_per_row: Mean tokens of a row.
        longest_row: Tokens of the longest row.
        masked_share: Share of tokens that are only read.
        truncated_share: Share of tokens that are cut off.
        tokens_per_s: Tokens trained on in a second, padding left out.
        seconds_per_step: Seconds of a typical step.
        peak_memory_bytes: Most memory taken, with the longest rows in one step.
        total_steps: Steps of the plan.
        total_tokens: Tokens that the plan would train on, read again in every epoch.
        estimated_s: Seconds that the plan would take, loading, evaluating and sampling included.
    """

    rows: int
    rows_without_labels: int
    tokens_per_row: float
    longest_row: int
    masked_share: float
    truncated_share: float
    tokens_per_s: float
    seconds_per_step: float
    peak_memory_bytes: int
    total_steps: int
    total_tokens: int
    estimated_s: float


Message = RowsRead | Started | Metrics | CheckpointSaved | PairsJudged | Finished | Paused | Failed | DryRun

_TYPES: Final[Mapping[str, type[Message]]] = {
    "rows_read": RowsRead,
    "started": Started,
    "metrics": Metrics,
    "checkpoint_saved": CheckpointSaved,
    "pairs_judged": PairsJudged,
    "finished": Finished,
    "paused": Paused,
    "failed": Failed,
    "dry_run": DryRun,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}
_PATHS: Final = frozenset({"folder", "adapter_folder", "reward_model_folder", "path"})
_NUMBERS: Final = frozenset({"values", "metrics"})


def encode(message: Message) -> str:
    """Return a message as one line of JSON, without its end; numbers that are not finite are left out."""
    told = {name: _told(name, value) for name, value in asdict(message).items()}
    return json.dumps({"type": _NAMES[type(message)], **told}, separators=(",", ":"))


def decode(line: str | bytes) -> Message:
    """Return the message of a line.

    Raises:
        ValueError: The line is no message.
    """
    try:
        read: dict[str, Any] = dict(json.loads(line))
        kind = _TYPES[read.pop("type")]
        if "code" in read:
            read["code"] = FailureCode(read["code"])
        values: dict[str, Any] = {
            name: Path(it) if name in _PATHS and it is not None else it for name, it in read.items()
        }
        return kind(**values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"no message of a training process: {error!r}") from error


def _told(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if name in _NUMBERS:
        return {key: number for key, number in value.items() if math.isfinite(number)}
    return value
