"""Training jobs: their states, what moves them, and what is remembered of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from services.chassis.errors import Conflict, InvalidInput
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.spec import TrainingSpec

__all__ = [
    "FINAL",
    "TRAIN_JOB",
    "VALIDATE_JOB",
    "Checkpoint",
    "JobError",
    "JobEvent",
    "JobStatus",
    "SourceCount",
    "TuningJob",
    "check_metadata",
    "check_suffix",
    "openai_metrics",
    "result_csv",
]

# Kinds of work in the job table.
VALIDATE_JOB: Final = "validate"
TRAIN_JOB: Final = "train"

# What the trainer calls otherwise than OpenAI does.
_OPENAI_NAMES: Final = {
    "loss": "train_loss",
    "mean_token_accuracy": "train_mean_token_accuracy",
    "tokens": "trained_tokens",
}
_MAX_METADATA: Final = 16
_MAX_KEY, _MAX_VALUE = 64, 512
_SUFFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}", re.ASCII)


class JobStatus(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
_MOVES: Final = {
    JobStatus.VALIDATING: {JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED},
    JobStatus.QUEUED: {JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED},
    JobStatus.RUNNING: {JobStatus.PAUSED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED},
    JobStatus.PAUSED: {JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED},
}


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str
    param: str = ""


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What rows came from: `kind` is document, feedback or file; `version` 0 where there is none."""

    kind: str
    id: str
    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class TuningJob:
    """A training job.

    Attributes:
        job_id: Id.
        tenant: Tenant.
        owner: Who created it, as far as the room must act in their name.
        status: Where it stands.
        model: What it starts from, as asked.
        base_model: Base model below that.
        parent: Adapter whose training it continues; empty for none.
        wanted: How to train, as asked.
        spec: How it is trained, with everything chosen; None before validation.
        training_file: File with the rows.
        validation_file: File with held-out rows; empty for none.
        suffix: Last part of the adapter's name.
        seed: Seed of everything that is drawn.
        metadata: The caller's notes.
        method_json: The method as the caller wrote it.
        integrations_json: Integrations as the caller wrote them.
        audience: Principals who are to be able to ask the adapter, before its sources narrow that.
        created_at: Seconds since 1970.
        queued_at: When it was queued; 0 before.
        finished_at: When it ended; 0 before.
        error: Why it failed.
        fine_tuned_model: The adapter that it made; one that runs has published it, and waits for the engine to have it.
        result_files: Files with its results.
        trained_tokens: Tokens trained on.
        step: Steps done.
        total_steps: Steps in all; 0 when not known.
        metrics: Newest metrics by name.
        report_json: What validation found.
        estimated_s: Seconds that training is thought to take; 0 when not known.
        spent_s: Seconds of training spent in earlier runs.
        running_since: When the current run began; 0 when it does not run.
        pausing: Whether a running job is to stop at its next step.
        waits_for: Job that must succeed before this one begins; empty for none.
        parent_job: Job whose adapter this one will start from, while it waits.
        retrains: Adapter whose place this one's is to take after a deletion; empty for none.
        sources: What its rows came from.
        deaths: Times in a row that the trainer died without reaching a further checkpoint.
    """

    job_id: str
    tenant: str
    owner: Owner
    status: JobStatus
    model: str
    base_model: str
    parent: str
    wanted: TrainingSpec
    training_file: str
    validation_file: str
    suffix: str
    seed: int
    metadata: dict[str, str]
    method_json: str
    integrations_json: str
    audience: tuple[str, ...]
    created_at: float
    spec: TrainingSpec | None = None
    queued_at: float = 0.0
    finished_at: float = 0.0
    error: JobError | None = None
    fine_tuned_model: str = ""
    result_files: tuple[str, ...] = ()
    trained_tokens: int = 0
    step: int = 0
    total_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    report_json: str = ""
    estimated_s: float = 0.0
    spent_s: float = 0.0
    running_since: float = 0.0
    pausing: bool = False
    waits_for: str = ""
    parent_job: str = ""
    retrains: str = ""
    sources: tuple[SourceCount, ...] = ()
    deaths: int = 0

    @property
    def is_published(self) -> bool:
        """Whether what it made is published, and only its end is left to be noted."""
        return bool(self.fine_tuned_model) and self.status is JobStatus.RUNNING

    def check_stoppable(self) -> None:
        """Return if the job can still be paused or cancelled.

        Raises:
            Conflict: What it made is published.
        """
        if self.is_published:
            raise Conflict(
                "The job has trained, and its model is being published; it can no longer be stopped.",
                param="fine_tuning_job_id",
            )

    def moved(self, status: JobStatus, at: float) -> "TuningJob":
        """Return the job in another state.

        Raises:
            Conflict: It cannot come to that state from where it is.
        """
        if status not in _MOVES.get(self.status, set()):
            raise Conflict(
                f"The job is {self.status.value}; it cannot become {status.value}.",
                param="fine_tuning_job_id",
            )
        if status is not JobStatus.SUCCEEDED:
            self.check_stoppable()
        spent = self.spent_s + (at - self.running_since if self.running_since else 0.0)
        return replace(
            self,
            status=status,
            spent_s=spent,
            running_since=at if status is JobStatus.RUNNING else 0.0,
            queued_at=at if status is JobStatus.QUEUED else self.queued_at,
            finished_at=at if status in FINAL else 0.0,
            pausing=False,
        )

    def failed(self, error: JobError, at: float) -> "TuningJob":
        """Return the job as failed."""
        return replace(self.moved(JobStatus.FAILED, at), error=error)

    def remaining_s(self, now: float) -> float:
        """Return the seconds of training that are thought to be left; 0 when that is not known."""
        if not self.estimated_s or self.is_published:
            return 0.0
        if self.status is JobStatus.RUNNING and self.step and self.total_steps:
            spent = self.spent_s + now - self.running_since
            return max(0.0, spent / self.step * (self.total_steps - self.step))
        return max(0.0, self.estimated_s - self.spent_s)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job; `kind` is message or metrics, `level` info, warn or error."""

    event_id: str
    job_id: str
    created_at: float
    level: str
    message: str
    kind: str = "message"
    data: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the weights that training can go on from.

    Attributes:
        checkpoint_id: Id.
        job_id: Job.
        created_at: Seconds since 1970.
        step: Steps done.
        metrics: Metrics at that step.
        blob_key: Archive in the blob store.
        adapter: Where in the archive the adapter lies; empty where there is none.
    """

    checkpoint_id: str
    job_id: str
    created_at: float
    step: int
    metrics: dict[str, float]
    blob_key: str
    adapter: str


def check_metadata(metadata: dict[str, str]) -> None:
    """Refuse notes beyond OpenAI's bounds.

    Raises:
        InvalidInput: There are too many, or one is too long.
    """
    if len(metadata) > _MAX_METADATA:
        raise InvalidInput(
            f"metadata: {len(metadata)} entries are too many; at most {_MAX_METADATA}.", param="metadata"
        )
    for key, value in metadata.items():
        if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE:
            raise InvalidInput(
                f"metadata: {key[:80]!r} is not allowed; keys have 1 to {_MAX_KEY} characters, values at most "
                f"{_MAX_VALUE}.",
                param="metadata",
            )
        if "\0" in key + value:
            # A database that is asked for notes could not compare this one with anything.
            raise InvalidInput(f"metadata: {key[:80]!r} or its value holds the character NUL.", param="metadata")


def check_suffix(suffix: str) -> None:
    """Refuse a suffix that cannot be part of an adapter's name.

    Raises:
        InvalidInput: It is too long or has other characters than letters, digits, blanks, dots, dashes and underscores.
    """
    if suffix and _SUFFIX.fullmatch(suffix) is None:
        raise InvalidInput(
            f"suffix: {suffix[:80]!r} is not allowed; use 1 to 64 letters, digits, dots, dashes and underscores, a letter "
            "or digit first.",
            param="suffix",
        )


def openai_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return what a trainer measured under the names that OpenAI's events, checkpoints and result files have."""
    return {_OPENAI_NAMES.get(name, name): float(value) for name, value in values.items()}


def result_csv(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Return metrics by step as OpenAI's result files have them: one line a step, empty where nothing was measured.

    Training and evaluation tell of a step separately, and a trainer that died tells of some steps again; the last word
    counts.
    """
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        steps.setdefault(int(row["step"]), {}).update(row)
    columns = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    ordered = [steps[step] for step in sorted(steps)]
    cells = [["" if column not in row else f"{row[column]:g}" for column in columns] for row in ordered]
    lines = [",".join(line) for line in (columns, *cells)]
    return ("\n".join(lines) + "\n").encode()
