"""How a job is to be trained: what the caller asked for, and its bounds."""

from dataclasses import dataclass, fields, replace
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import LoraShape, Stage, TrainingSettings
from services.finetuning.domain.training_defaults import WantedLora, WantedTraining, resolved

__all__ = ["Lora", "TrainingSpec"]

# Field -> smallest and largest value; the first three are OpenAI's bounds.
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "n_epochs": (1, 50),
    "batch_size": (1, 256),
    "learning_rate_multiplier": (1e-4, 1e4),
    "beta": (1e-6, 1e3),
    "max_length": (16, 1 << 20),
    "max_steps": (1, 10_000_000),
    "checkpoint_every": (1, 1_000_000),
    "evaluate_every": (1, 1_000_000),
    "samples_per_prompt": (2, 64),
    "max_completion_tokens": (1, 8192),
    "budget_s": (1, 1e9),
    "budget_cost": (1e-6, 1e9),
}
_MAX_CONSTITUTION_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Lora:
    """The shape of an adapter; 0 and empty mean: the room chooses.

    Attributes:
        rank: Rank of the two matrices.
        alpha: Scale of their product.
        dropout: Share of inputs dropped while training.
        target_modules: Last parts of the names of the layers to adapt.
        rank_stabilised: Whether the scale is alpha / sqrt(rank) (rank-stabilised LoRA, arXiv:2312.03732).
    """

    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InvalidInput(
                f"lora.dropout: {self.dropout!r} is not allowed; give 0 to below 1.", param="brain.lora.dropout"
            )
        if not 0 <= self.alpha <= 1e6:
            raise InvalidInput(
                f"lora.alpha: {self.alpha!r} is not allowed; give a number above 0.", param="brain.lora.alpha"
            )


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """How to train. None means: the room chooses; a job shows what was chosen.

    Attributes:
        stage: What is trained.
        n_epochs: Times that all rows are seen.
        batch_size: Rows in one step.
        learning_rate_multiplier: Factor on the stage's own learning rate.
        beta: Strength of the tie to the reference (DPO, KTO, RLHF).
        lora: Shape of the adapter.
        max_length: Most tokens in a row.
        max_steps: Most steps.
        checkpoint_every: Steps between two checkpoints.
        evaluate_every: Steps between two evaluations.
        reward_model: Job that made the reward model (RLHF).
        grader_json: Grader as OpenAI writes it (RLHF without a reward model).
        constitution: What good answers are (RLAIF).
        judge_model: Model that judges (RLAIF); empty for the base model.
        samples_per_prompt: Answers sampled for one prompt (RLHF, RLAIF).
        max_completion_tokens: Most tokens of a sampled answer.
        budget_s: Seconds of training after which the job is paused.
        budget_cost: Money after which the job is paused.
    """

    stage: Stage
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    lora: Lora = Lora()
    max_length: int | None = None
    max_steps: int | None = None
    checkpoint_every: int | None = None
    evaluate_every: int | None = None
    reward_model: str = ""
    grader_json: str = ""
    constitution: str = ""
    judge_model: str = ""
    samples_per_prompt: int | None = None
    max_completion_tokens: int | None = None
    budget_s: float | None = None
    budget_cost: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            bounds = _BOUNDS.get(field.name)
            if bounds is not None and value is not None and not bounds[0] <= value <= bounds[1]:
                raise InvalidInput(
                    f"{field.name}: {value!r} is not allowed; give {bounds[0]:g} to {bounds[1]:g}.", param=field.name
                )
        if len(self.constitution) > _MAX_CONSTITUTION_CHARS:
            raise InvalidInput(
                f"constitution: {len(self.constitution)} characters are too many; at most {_MAX_CONSTITUTION_CHARS}.",
                param="brain.constitution",
            )
        if self.stage is Stage.RLHF and bool(self.reward_model) == bool(self.grader_json):
            raise InvalidInput(
                "reward_model: reinforcement learning needs either a reward model (the job that made it) or a grader.",
                param="method.reinforcement.grader",
            )
        if self.stage is Stage.RLAIF and not self.constitution.strip():
            raise InvalidInput(
                "constitution: RLAIF needs to be told in words what a good answer is.", param="brain.constitution"
            )

    def settings(self, *, rows: int, width: int, seed: int, start: LoraShape | None, max_rank: int) -> TrainingSettings:
        """Return how to train, with everything chosen; a spec that was `chosen` gives the same settings again.

        Args:
            rows: Rows of the training file.
            width: Hidden size of the base model.
            seed: Seed of everything that is drawn.
            start: Shape of the adapter that is trained on; None for a new one.
            max_rank: Largest rank that the engine serves; 0 where it does not say.

        Raises:
            InvalidInput: A value is not allowed.
        """
        lora = WantedLora(
            self.lora.rank,
            self.lora.alpha,
            self.lora.dropout,
            self.lora.target_modules,
            self.lora.rank_stabilised or None,
        )
        wanted = WantedTraining(
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            learning_rate_multiplier=self.learning_rate_multiplier,
            beta=self.beta,
            lora=lora,
            max_length=self.max_length or 0,
            max_steps=self.max_steps or 0,
            checkpoint_every=self.checkpoint_every or 0,
            evaluate_every=self.evaluate_every or 0,
            samples_per_prompt=self.samples_per_prompt or 0,
            max_completion_tokens=self.max_completion_tokens or 0,
        )
        if not max_rank:
            return resolved(self.stage, wanted, rows=rows, width=width, seed=seed, start=start)
        return resolved(self.stage, wanted, rows=rows, width=width, seed=seed, start=start, max_rank=max_rank)

    def chosen(self, settings: TrainingSettings) -> "TrainingSpec":
        """Return the spec with what the room chose for what was left open."""
        shape = settings.lora
        return replace(
            self,
            n_epochs=settings.n_epochs,
            batch_size=settings.batch_size,
            learning_rate_multiplier=self.learning_rate_multiplier or 1.0,
            beta=settings.beta if self.stage.has_reference else self.beta,
            lora=Lora(shape.rank, shape.alpha, shape.dropout, shape.target_modules, shape.rank_stabilised),
            max_length=settings.max_length,
            samples_per_prompt=settings.samples_per_prompt if self.stage.samples else self.samples_per_prompt,
            max_completion_tokens=settings.max_completion_tokens if self.stage.samples else self.max_completion_tokens,
        )
