"""What a training process is told: the stage, how to train, and where everything lies."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from services.chassis.errors import InvalidInput

__all__ = [
    "Device",
    "LoraShape",
    "Precision",
    "Stage",
    "TrainingPlan",
    "TrainingSettings",
    "checkpoint_step",
    "newest_checkpoint",
]

MAX_EPOCHS: Final = 50
MAX_BATCH_SIZE: Final = 256
# Completions of one prompt that are held in memory at once.
MAX_SAMPLES: Final = 64
MAX_SEED: Final = (1 << 32) - 1
# Largest value of vLLM's `max_lora_rank`.
MAX_RANK: Final = 512


class Stage(StrEnum):
    """What is trained."""

    CONTINUED_PRETRAINING = "continued_pretraining"
    SUPERVISED = "supervised"
    RAFT = "raft"
    DPO = "dpo"
    KTO = "kto"
    REWARD_MODEL = "reward_model"
    RLHF = "rlhf"
    RLAIF = "rlaif"

    @property
    def makes_adapter(self) -> bool:
        """Whether its result is an adapter; a reward model is merged into its base and never served."""
        return self is not Stage.REWARD_MODEL

    @property
    def has_reference(self) -> bool:
        """Whether it is held near the frozen previous stage."""
        return self in {Stage.DPO, Stage.KTO, Stage.RLHF, Stage.RLAIF}

    @property
    def samples(self) -> bool:
        """Whether it has the model write answers while it trains."""
        return self in {Stage.RLHF, Stage.RLAIF}


class Device(StrEnum):
    """Where the arithmetic happens."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """How the frozen weights are held and multiplied; an adapter's own weights are always 32-bit floats."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class LoraShape:
    """The shape of the adapter.

    Attributes:
        rank: Rank of every layer's change.
        alpha: Scale; the change is multiplied by alpha / rank, or alpha / √rank where `rank_stabilised`.
        dropout: Share of inputs dropped while training.
        target_modules: Last parts of the names of the layers to adapt; empty for all linear layers.
        rank_stabilised: Whether to scale by the root of the rank (arXiv:2312.03732).
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        _within("lora.rank", self.rank, 1, MAX_RANK)
        _within("lora.alpha", self.alpha, 0, 65_536, open_below=True)
        if not (math.isfinite(self.dropout) and 0 <= self.dropout < 1):
            raise InvalidInput(
                f"lora.dropout: {self.dropout} is not allowed; use a number from 0 to below 1.", param="lora.dropout"
            )
        if any(not name or not name.replace("_", "").isalnum() for name in self.target_modules):
            raise InvalidInput(
                "lora.target_modules: give last parts of layers' names, such as q_proj.", param="lora.target_modules"
            )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train, with everything chosen.

    Attributes:
        n_epochs: Times that all rows are seen.
        batch_size: Rows in one step; prompts where the stage samples.
        learning_rate: Peak rate; it falls linearly to zero.
        beta: Strength of the tie to the reference.
        lora: Shape of the adapter.
        max_length: Most tokens in a row; length of the blocks in continued pretraining.
        max_steps: Most steps; 0 for as many as the epochs need.
        checkpoint_every: Steps between checkpoints; 0 for a twentieth of all, and a minute at least.
        evaluate_every: Steps between evaluations; 0 for a tenth of all.
        seed: Seed of everything that is drawn.
        samples_per_prompt: Answers sampled for one prompt.
        max_completion_tokens: Most tokens of a sampled answer.
    """

    n_epochs: int
    batch_size: int
    learning_rate: float
    beta: float
    lora: LoraShape = field(default_factory=LoraShape)
    max_length: int = 1024
    max_steps: int = 0
    checkpoint_every: int = 0
    evaluate_every: int = 0
    seed: int = 0
    samples_per_prompt: int = 4
    max_completion_tokens: int = 128

    def __post_init__(self) -> None:
        _within("n_epochs", self.n_epochs, 1, MAX_EPOCHS)
        _within("batch_size", self.batch_size, 1, MAX_BATCH_SIZE)
        # A rate of 1 or more moves every weight by more than it is in one step.
        _within("learning_rate", self.learning_rate, 0, 1, open_below=True)
        _within("beta", self.beta, 0, 100, open_below=True)
        _within("max_length", self.max_length, 8, 1 << 20)
        for name in ("max_steps", "checkpoint_every", "evaluate_every"):
            _within(name, getattr(self, name), 0, 1 << 31)
        _within("seed", self.seed, 0, MAX_SEED)
        _within("samples_per_prompt", self.samples_per_prompt, 2, MAX_SAMPLES)
        _within("max_completion_tokens", self.max_completion_tokens, 1, 1 << 16)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Everything that a training process needs.

    Attributes:
        stage: What is trained.
        base_folder: The base model's files in the Hugging Face layout.
        base_name: The name that the adapter gives its base; never a path of this machine.
        rows: Normalised rows, JSONL.
        work: Folder of the job: checkpoints and the result are written below it.
        settings: How to train.
        start_adapter: Folder of the previous stage's adapter, whose tensors are trained on; None starts a new one.
        validation_rows: Rows that are held out, JSONL; None for none.
        reward_model: Folder of the model that scores answers (RLHF).
        grader_json: Grader that scores answers in its place, as OpenAI writes it; empty for none.
        constitution: What good answers are, in words (RLAIF).
        judge_adapter: Folder of the adapter that judges (RLAIF); None has the base model judge.
        allowed_modules: Last parts of names of layers that the engine can adapt; empty allows every linear layer.
        device: Where the arithmetic happens.
        precision: How the frozen weights are held.
    """

    stage: Stage
    base_folder: Path
    base_name: str
    rows: Path
    work: Path
    settings: TrainingSettings
    start_adapter: Path | None = None
    validation_rows: Path | None = None
    reward_model: Path | None = None
    grader_json: str = ""
    constitution: str = ""
    judge_adapter: Path | None = None
    allowed_modules: frozenset[str] = frozenset()
    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO

    def __post_init__(self) -> None:
        if not self.base_name:
            raise InvalidInput("base_name: give the base model's name.", param="base_name")
        if self.stage is Stage.RLHF and (self.reward_model is None) == (not self.grader_json):
            raise InvalidInput(
                "reward_model: reinforcement learning needs a reward model or a grader, and takes only one.",
                param="reward_model",
            )
        if self.stage is Stage.RLAIF and not self.constitution.strip():
            raise InvalidInput("constitution: say in words what a good answer is.", param="constitution")

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are kept, one folder `step-N` for each."""
        return self.work / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint after `step` steps."""
        return self.checkpoints / f"step-{step}"

    @property
    def result(self) -> Path:
        """Where its result is put: an adapter, or a reward model."""
        return self.work / ("adapter" if self.stage.makes_adapter else "reward-model")

    def to_json(self) -> str:
        """Return it as JSON, for `from_json`."""
        return json.dumps(asdict(self), default=_plain)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan that `to_json` wrote.

        Raises:
            InvalidInput: The text is no plan.
        """
        try:
            read: dict[str, Any] = json.loads(text)
            unknown = set(read) - {it.name for it in fields(cls)}
            if unknown:
                raise InvalidInput(f"plan: {', '.join(sorted(unknown))} are not known.", param="plan")
            settings = dict(read.pop("settings"))
            lora = dict(settings.pop("lora"))
            lora["target_modules"] = tuple(lora.get("target_modules", ()))
            stage, device = Stage(read.pop("stage")), Device(read.pop("device", Device.AUTO))
            precision = Precision(read.pop("precision", Precision.AUTO))
            allowed = frozenset(read.pop("allowed_modules", ()))
            rest: dict[str, Any] = {name: _path(value) if name in _PATHS else value for name, value in read.items()}
            return cls(
                stage=stage,
                settings=TrainingSettings(lora=LoraShape(**lora), **settings),
                device=device,
                precision=precision,
                allowed_modules=allowed,
                **rest,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(f"plan: it cannot be read ({error}).", param="plan") from error


def checkpoint_step(path: Path) -> int | None:
    """Return the step of a checkpoint's folder; None for what is no checkpoint.

    >>> checkpoint_step(Path("checkpoints/step-20"))
    20
    """
    head, _, number = path.name.partition("-")
    return int(number) if head == "step" and number.isdecimal() else None


def newest_checkpoint(checkpoints: Iterable[Path]) -> Path | None:
    """Return the checkpoint of the last step among folders; None when there is none."""
    steps = {step: path for path in checkpoints if (step := checkpoint_step(path)) is not None}
    return steps[max(steps)] if steps else None


_PATHS: Final = frozenset(
    {"base_folder", "rows", "work", "start_adapter", "validation_rows", "reward_model", "judge_adapter"}
)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def _within(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    if not math.isfinite(value) or value > high or value < low or (open_below and value == low):
        least = f"above {low:g}" if open_below else f"from {low:g}"
        raise InvalidInput(f"{name}: {value:g} is not allowed; use a number {least} to {high:g}.", param=name)
