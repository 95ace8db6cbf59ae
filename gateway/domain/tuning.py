"""Tuning: datasets, jobs from rows to adapters, graders, and webhooks that tell of jobs.

What other rooms write down as JSON (reports, metrics, methods, graders) stays JSON here: the gateway passes it on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.chassis.errors import InvalidInput

__all__ = [
    "FINAL_STATUSES",
    "STAGES_OF_METHOD",
    "Check",
    "Checkpoint",
    "Dataset",
    "DatasetKind",
    "DatasetSpec",
    "DatasetStatus",
    "Grade",
    "Job",
    "JobError",
    "JobEvent",
    "JobStatus",
    "Lora",
    "NewJob",
    "Stage",
    "TrainingSpec",
    "Webhook",
    "stage_for",
]


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


class JobStatus(StrEnum):
    """Where a job stands."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATUSES: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
# OpenAI's methods, and what of ours reads the rows that each of them is for; the first is what the method means by itself.
STAGES_OF_METHOD: Final[Mapping[str, tuple[Stage, ...]]] = {
    "supervised": (Stage.SUPERVISED, Stage.CONTINUED_PRETRAINING, Stage.RAFT, Stage.KTO),
    "dpo": (Stage.DPO, Stage.REWARD_MODEL, Stage.KTO, Stage.RLAIF),
    "reinforcement": (Stage.RLHF, Stage.RLAIF),
}


def stage_for(method: str, asked: Stage | None) -> Stage:
    """Return the stage of a job; without a method any stage may be asked for, and `supervised` is what is meant.

    Raises:
        InvalidInput: The stage reads other rows than the method is for.
    """
    if not method:
        return asked or Stage.SUPERVISED
    allowed = STAGES_OF_METHOD[method]
    if asked is not None and asked not in allowed:
        raise InvalidInput(
            f"brain.stage: {asked.value!r} is not allowed beside method.type {method!r}; use {', '.join(allowed)}, or "
            "leave method out.",
            param="brain.stage",
        )
    return asked or allowed[0]


@dataclass(frozen=True, slots=True)
class Lora:
    """The shape of an adapter; 0 and empty leave the choice to the room."""

    rank: int = 0
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    rank_stabilised: bool = False


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """How to train; None, 0 and empty leave the choice to the room."""

    stage: Stage
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    lora: Lora = Lora()
    max_length: int = 0
    max_steps: int = 0
    checkpoint_every: int = 0
    evaluate_every: int = 0
    reward_model: str = ""
    grader_json: str = ""
    constitution: str = ""
    judge_model: str = ""
    samples_per_prompt: int = 0
    max_completion_tokens: int = 0
    budget_s: float = 0.0
    budget_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create or to check; method and integrations are echoed as the caller wrote them."""

    model: str
    training_file: str
    spec: TrainingSpec
    validation_file: str = ""
    suffix: str = ""
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    method_json: str = ""
    integrations_json: str = ""
    audience: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str
    param: str


@dataclass(frozen=True, slots=True)
class Job:
    """A training job."""

    id: str
    created_at: datetime
    finished_at: datetime | None
    status: JobStatus
    error: JobError | None
    model: str
    base_model: str
    fine_tuned_model: str
    training_file: str
    validation_file: str
    result_files: tuple[str, ...]
    suffix: str
    seed: int
    metadata: Mapping[str, str]
    method_json: str
    spec: TrainingSpec
    trained_tokens: int
    estimated_finish: datetime | None
    queue_position: int
    step: int
    total_steps: int
    report_json: str
    owner: str
    integrations_json: str
    metrics_json: str


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job."""

    id: str
    created_at: datetime
    level: str
    message: str
    type: str
    data_json: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the weights; `model` is the name that it is served under once the job has succeeded."""

    id: str
    created_at: datetime
    model: str
    job_id: str
    step: int
    metrics_json: str


@dataclass(frozen=True, slots=True)
class Check:
    """What the pre-flight of a job found."""

    trainable: bool
    report_json: str


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader says of one answer; `sub_rewards` by the names of a grader's parts."""

    reward: float
    sub_rewards: Mapping[str, float]
    metadata_json: str


class DatasetKind(StrEnum):
    """What rows a dataset holds."""

    TEXT = "text"
    QUESTIONS = "questions"
    RAFT = "raft"
    KTO = "kto"
    PREFERENCES = "preferences"
    IMPORT = "import"
    PROMPTS = "prompts"


class DatasetStatus(StrEnum):
    """Where a dataset stands."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """How to make rows; None, 0 and empty leave the choice to the room."""

    kind: DatasetKind
    collection_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    file_id: str = ""
    format: str = ""
    max_rows: int = 0
    passages_per_row: int = 0
    gold_share: float | None = None
    unanswerable_share: float | None = None
    phrasings: int = 0
    held_out_share: float | None = None
    seed: int | None = None
    writer_model: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training rows and where they came from."""

    id: str
    name: str
    created_at: datetime
    status: DatasetStatus
    spec: DatasetSpec
    training_file: str
    held_out_file: str
    rows: int
    held_out_rows: int
    documents: int
    judgements: int
    report_json: str
    error: str
    owner: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told when jobs end."""

    id: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    last_delivery: str
