"""Messages of the room ↔ domain, where several services share them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from brain.finetuning.v1 import job_pb2
from services.chassis.errors import InvalidInput
from services.finetuning.domain.spec import Lora, TrainingSpec
from services.finetuning.domain.training import Stage
from services.finetuning.ports.records import Page

__all__ = ["moment", "page_of", "spec_message", "spec_of"]

_STAGES: Final[Mapping[job_pb2.Stage.ValueType, Stage]] = {
    # OpenAI's default method.
    job_pb2.STAGE_UNSPECIFIED: Stage.SUPERVISED,
    job_pb2.STAGE_CONTINUED_PRETRAINING: Stage.CONTINUED_PRETRAINING,
    job_pb2.STAGE_SUPERVISED: Stage.SUPERVISED,
    job_pb2.STAGE_RAFT: Stage.RAFT,
    job_pb2.STAGE_DPO: Stage.DPO,
    job_pb2.STAGE_KTO: Stage.KTO,
    job_pb2.STAGE_REWARD_MODEL: Stage.REWARD_MODEL,
    job_pb2.STAGE_RLHF: Stage.RLHF,
    job_pb2.STAGE_RLAIF: Stage.RLAIF,
}
_NAMES: Final = {stage: number for number, stage in _STAGES.items() if number}
_MAYBE: Final = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
# On the wire 0 means: the room chooses.
_COUNTS: Final = (
    "max_length",
    "max_steps",
    "checkpoint_every",
    "evaluate_every",
    "samples_per_prompt",
    "max_completion_tokens",
    "budget_s",
    "budget_cost",
)
_TEXTS: Final = ("reward_model", "grader_json", "constitution", "judge_model")


class _Paged(Protocol):
    limit: int
    after: str


def page_of(request: _Paged, *, default: int = 20, largest: int = 100) -> Page:
    """Return the part of a list that a request asks for.

    Raises:
        InvalidInput: The limit is out of its bounds.
    """
    limit = request.limit or default
    if limit > largest:
        raise InvalidInput(f"limit: {limit} is not allowed; give 1 to {largest}.", param="limit")
    return Page(limit, request.after)


def moment(at: float) -> Timestamp | None:
    """Return seconds since 1970 as a timestamp; None for 0, which means never."""
    if not at:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromtimestamp(at, UTC))
    return stamp


def spec_of(message: job_pb2.TrainingSpec) -> TrainingSpec:
    """Return how to train, as asked.

    Raises:
        InvalidInput: A field is out of its bounds.
    """
    stage = _STAGES.get(message.stage)
    if stage is None:
        raise InvalidInput(f"stage: {message.stage} is not known.", param="brain.stage")
    lora = message.lora
    return TrainingSpec(
        stage=stage,
        lora=Lora(lora.rank, lora.alpha, lora.dropout, tuple(lora.target_modules), lora.rank_stabilised),
        **{name: getattr(message, name) for name in _MAYBE if message.HasField(name)},
        **{name: getattr(message, name) for name in _COUNTS if getattr(message, name)},
        **{name: getattr(message, name) for name in _TEXTS},
    )


def spec_message(spec: TrainingSpec) -> job_pb2.TrainingSpec:
    """Return how a job is trained, as the wire says it."""
    message = job_pb2.TrainingSpec(
        stage=_NAMES[spec.stage],
        lora=job_pb2.Lora(
            rank=spec.lora.rank,
            alpha=spec.lora.alpha,
            dropout=spec.lora.dropout,
            target_modules=spec.lora.target_modules,
            rank_stabilised=spec.lora.rank_stabilised,
        ),
    )
    for name in (*_MAYBE, *_COUNTS, *_TEXTS):
        value = getattr(spec, name)
        if value is not None:
            setattr(message, name, value)
    return message
