"""What a job's caller may leave open about training, and what the room then chooses for each stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import LoraShape, Stage, TrainingSettings

__all__ = ["WantedLora", "WantedTraining", "resolved"]


@dataclass(frozen=True, slots=True)
class WantedLora:
    """The shape that a caller asks for; 0, empty or None leaves it to the room."""

    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    rank_stabilised: bool | None = None


@dataclass(frozen=True, slots=True)
class WantedTraining:
    """How a caller wants to train; None or 0 leaves it to the room."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    lora: WantedLora = field(default_factory=WantedLora)
    max_length: int = 0
    max_steps: int = 0
    checkpoint_every: int = 0
    evaluate_every: int = 0
    samples_per_prompt: int = 0
    max_completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Usual:
    """What a stage takes when nothing else is said."""

    learning_rate: float
    epochs: int
    # The tie to the reference; a stage without one does not read it.
    beta: float = 0.1
    max_length: int = 1024
    least_batch: int = 1
    most_batch: int = 8
    # With so few rows they are seen more often, until this many have passed.
    least_seen: int = 100


# Rates are those of LoRA for a model 4,096 wide, ten times those of full fine-tuning, and rise for narrower models (see
# `_rate`). A preference is one bit about a whole answer, and its losses are the most easily overdone: a sixth of the
# supervised rate. A reward head is new and begins at nothing: half of it. Epochs: three passes are usual for supervised
# rows; documents, preferences and prompts are passed once, where a second pass mostly memorises. Betas are those of the
# papers (DPO and KTO 0.1; GRPO 0.04). Batches above 8 gain LoRA nothing; KTO estimates its divergence within a batch and
# needs at least 4 rows there. Documents are cut to blocks of 512 tokens: beyond, the cost of attention on a CPU grows
# faster than what is learnt from distant words.
_USUAL: Final[Mapping[Stage, _Usual]] = {
    Stage.CONTINUED_PRETRAINING: _Usual(learning_rate=3e-4, epochs=1, max_length=512, least_seen=0),
    Stage.SUPERVISED: _Usual(learning_rate=3e-4, epochs=3),
    Stage.RAFT: _Usual(learning_rate=3e-4, epochs=3),
    Stage.DPO: _Usual(learning_rate=5e-5, epochs=1),
    Stage.KTO: _Usual(learning_rate=5e-5, epochs=1, least_batch=4),
    Stage.REWARD_MODEL: _Usual(learning_rate=1.5e-4, epochs=1),
    Stage.RLHF: _Usual(learning_rate=5e-5, epochs=1, beta=0.04, most_batch=4),
    Stage.RLAIF: _Usual(learning_rate=5e-5, epochs=1),
}
_USUAL_WIDTH: Final = 4096
# The best rate for LoRA falls with a model's width; measured for Llama models in "LoRA Without Regret" (Thinking Machines
# Lab, 2025), whose rule gives 2.9e-4 for a width of 4,096 and 1.3e-3 for the packaged model's 576.
_RATE_EXPONENT: Final = 0.775
# What few rows may be multiplied to, and many rows are cut to: OpenAI's published rule for `auto`.
_MOST_EPOCHS: Final = 25
_MOST_SEEN: Final = 25_000
# An epoch of fewer steps leaves the falling rate no room.
_STEPS_PER_EPOCH: Final = 12
_USUAL_RANK: Final = 16
# Answers of one prompt: GRPO compares within the group, and four already tell better from worse; a pair is two.
_SAMPLES: Final[Mapping[Stage, int]] = {Stage.RLHF: 4, Stage.RLAIF: 2}
# A short answer; sampling is most of the time of these stages.
_COMPLETION_TOKENS: Final = 128


def resolved(
    stage: Stage,
    wanted: WantedTraining,
    *,
    rows: int,
    width: int,
    seed: int,
    start: LoraShape | None = None,
    max_rank: int = _USUAL_RANK,
) -> TrainingSettings:
    """Return how to train, with everything chosen.

    Args:
        stage: What is trained.
        wanted: What the caller asked for.
        rows: Rows of the training file.
        width: The base model's hidden size.
        seed: Seed of everything that is drawn.
        start: Shape of the adapter that is trained on; it cannot be changed.
        max_rank: Largest rank that the engine serves.

    Raises:
        InvalidInput: A value is not allowed; `param` names it.
    """
    usual = _USUAL[stage]
    multiplier = 1.0 if wanted.learning_rate_multiplier is None else wanted.learning_rate_multiplier
    if not 0 < multiplier <= 1000:
        raise InvalidInput(
            f"learning_rate_multiplier: {multiplier:g} is not allowed; use a number above 0 to 1000.",
            param="learning_rate_multiplier",
        )
    return TrainingSettings(
        n_epochs=_epochs(usual, rows) if wanted.n_epochs is None else wanted.n_epochs,
        batch_size=_batch_size(usual, rows) if wanted.batch_size is None else wanted.batch_size,
        learning_rate=_rate(usual, width) * multiplier,
        beta=usual.beta if wanted.beta is None else wanted.beta,
        lora=_lora(wanted.lora, start, max_rank),
        max_length=wanted.max_length or usual.max_length,
        max_steps=wanted.max_steps,
        checkpoint_every=wanted.checkpoint_every,
        evaluate_every=wanted.evaluate_every,
        seed=seed,
        samples_per_prompt=wanted.samples_per_prompt or _SAMPLES.get(stage, 2),
        max_completion_tokens=wanted.max_completion_tokens or _COMPLETION_TOKENS,
    )


def _rate(usual: _Usual, width: int) -> float:
    """Return the stage's own rate for a model of a width."""
    return float(usual.learning_rate * (_USUAL_WIDTH / width) ** _RATE_EXPONENT)


def _epochs(usual: _Usual, rows: int) -> int:
    """Return the stage's passes; more of them over few rows, fewer over very many."""
    if rows * usual.epochs < usual.least_seen:
        return min(_MOST_EPOCHS, max(usual.epochs, usual.least_seen // max(1, rows)))
    if rows * usual.epochs > _MOST_SEEN:
        return max(1, _MOST_SEEN // rows)
    return usual.epochs


def _batch_size(usual: _Usual, rows: int) -> int:
    """Return the largest power of two within the stage's limits that leaves an epoch enough steps."""
    size = 1
    while size * 2 <= min(usual.most_batch, rows // _STEPS_PER_EPOCH):
        size *= 2
    return max(usual.least_batch, size)


def _lora(wanted: WantedLora, start: LoraShape | None, max_rank: int) -> LoraShape:
    if start is not None:
        _check_same(wanted, start)
        return LoraShape(start.rank, start.alpha, wanted.dropout, start.target_modules, start.rank_stabilised)
    rank = wanted.rank or min(_USUAL_RANK, max_rank)
    if rank > max_rank:
        raise InvalidInput(f"lora.rank: {rank} is not allowed; the engine serves 1 to {max_rank}.", param="lora.rank")
    return LoraShape(
        rank=rank,
        alpha=wanted.alpha or 2.0 * rank,
        dropout=wanted.dropout,
        target_modules=wanted.target_modules,
        rank_stabilised=bool(wanted.rank_stabilised),
    )


def _check_same(wanted: WantedLora, start: LoraShape) -> None:
    """Refuse another shape than that of the adapter which is trained on."""
    asked = {
        "rank": (wanted.rank or start.rank, start.rank),
        "alpha": (wanted.alpha or start.alpha, start.alpha),
        "target_modules": (sorted(wanted.target_modules or start.target_modules), sorted(start.target_modules)),
        "rank_stabilised": (
            start.rank_stabilised if wanted.rank_stabilised is None else wanted.rank_stabilised,
            start.rank_stabilised,
        ),
    }
    for name, (value, has) in asked.items():
        if value != has:
            raise InvalidInput(
                f"lora.{name}: {value} is not allowed; the adapter whose training goes on has {has}, and keeps it.",
                param=f"lora.{name}",
            )
