"""Jobs as their owners handle them: create, look, pause, resume, cancel."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.ids import new_id
from services.finetuning.domain.adapters import AdapterStatus, adapter_name, checkpoint_name
from services.finetuning.domain.grader_documents import parse_grader
from services.finetuning.domain.grader_rewards import reward_function
from services.finetuning.domain.jobs import (
    FINAL,
    TRAIN_JOB,
    VALIDATE_JOB,
    Checkpoint,
    JobEvent,
    JobStatus,
    TuningJob,
    check_metadata,
    check_suffix,
)
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import Stage
from services.finetuning.ports.files import Files
from services.finetuning.ports.records import Change, Ledger, Page, Reading
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.lookup import known_adapter, own_job
from services.finetuning.usecases.reading import check_purpose

__all__ = ["CheckpointView", "JobView", "Jobs", "NewJob", "event", "resolve_model"]

_log = structlog.get_logger()

# OpenAI's bound for the seed of a job.
_MAX_SEED: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as asked for."""

    model: str
    training_file: str
    validation_file: str
    suffix: str
    seed: int | None
    metadata: dict[str, str]
    method_json: str
    integrations_json: str
    spec: TrainingSpec
    audience: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with what depends on the others: jobs before it, and when it is thought to end (seconds since 1970, or 0)."""

    job: TuningJob
    queue_position: int = 0
    estimated_finish: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A checkpoint, and the name under which the adapter in it is served when its job has succeeded; empty for none."""

    checkpoint: Checkpoint
    model: str


class Jobs:
    """Creates jobs and moves them as their owners say.

    Args:
        ledger: Records.
        files: Training files, looked for before a job is kept.
        base_model: Name of the base model.
        audience: Principals who may ask an adapter when a job does not say otherwise.
        devices: Jobs that train at once.
        metrics: Where jobs are counted.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        files: Files,
        base_model: str,
        audience: tuple[str, ...],
        devices: int,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._base_model = base_model
        self._audience = audience
        self._devices = devices
        self._metrics = metrics
        self._now = now

    async def draft(self, reading: Reading, caller: Caller, new: NewJob) -> TuningJob:
        """Return the job that a request describes, checked as far as that takes no file; nothing is kept.

        Raises:
            InvalidInput: A field is wrong.
            NotFound: A model is not known.
            Conflict: The model that it starts from is blocked, or the reward model is not there.
        """
        check_suffix(new.suffix)
        check_metadata(new.metadata)
        if not new.training_file:
            raise InvalidInput("training_file: this field is required.", param="training_file")
        if new.seed is not None and not 0 <= new.seed <= _MAX_SEED:
            raise InvalidInput(f"seed: {new.seed} is not allowed; give 0 to {_MAX_SEED}.", param="seed")
        parent = await resolve_model(reading, caller, new.model, base_model=self._base_model)
        if new.spec.grader_json:
            # Refused here when it is none, or needs a model at every step.
            reward_function(parse_grader(new.spec.grader_json, param="method.reinforcement.grader"))
        if new.spec.reward_model:
            await self._check_reward_model(reading, caller, new.spec.reward_model)
        return TuningJob(
            job_id=new_id("ftjob-"),
            tenant=caller.tenant,
            owner=Owner.of(caller),
            status=JobStatus.VALIDATING,
            model=new.model or self._base_model,
            base_model=self._base_model,
            parent=parent,
            wanted=new.spec,
            training_file=new.training_file,
            validation_file=new.validation_file,
            suffix=new.suffix,
            seed=random.SystemRandom().randrange(_MAX_SEED) if new.seed is None else new.seed,
            metadata=dict(new.metadata),
            method_json=new.method_json,
            integrations_json=new.integrations_json,
            audience=new.audience or self._audience,
            created_at=self._now(),
        )

    async def create(self, caller: Caller, new: NewJob) -> JobView:
        """Keep a job and have its files checked.

        Raises:
            InvalidInput: A field is wrong, or a file is not there for the caller or was stored for another purpose.
            NotFound: A model is not known.
            Conflict: The model that it starts from is blocked, or the reward model is not there.
        """
        await self.check_files(new)
        async with self._ledger.change() as change:
            job = await self.draft(change, caller, new)
            await self.begin(change, job)
        _log.info("tuning_job_created", job_id=job.job_id, stage=job.wanted.stage.value)
        return await self.view(job)

    async def check_files(self, new: NewJob) -> None:
        """Refuse files that are not there: OpenAI's API does so at once, and not with a job that fails.

        Raises:
            InvalidInput: A file is not there for the caller, or was stored for another purpose.
        """
        for param in ("training_file", "validation_file"):
            if file_id := getattr(new, param):
                try:
                    about = await self._files.about(file_id)
                except NotFound as error:
                    raise InvalidInput(f"{param}: there is no file {file_id[:80]!r}.", param=param) from error
                check_purpose(about, param)

    async def begin(self, change: Change, job: TuningJob) -> None:
        """Keep a new job; its validation begins at once, unless it waits for another's result."""
        await change.put_job(job)
        await change.add_event(job.tenant, event(job, self._now(), f"Created fine-tuning job: {job.job_id}"))
        if job.waits_for:
            await change.add_event(job.tenant, event(job, self._now(), f"Waiting for {job.waits_for}"))
        else:
            await change.add_event(
                job.tenant, event(job, self._now(), f"Validating training file: {job.training_file}")
            )
            await change.enqueue(VALIDATE_JOB, job.job_id, job.tenant)
        self._metrics.created.labels(stage=job.wanted.stage.value).inc()

    async def get(self, caller: Caller, job_id: str) -> JobView:
        """Return a job."""
        return await self.view(await own_job(self._ledger, caller, job_id))

    async def page(self, caller: Caller, page: Page, metadata: dict[str, str] | None) -> tuple[list[JobView], bool]:
        """Return a page of jobs with all of these notes (with None: without any), and whether more follow."""
        owner = None if caller.is_administrator else caller.subject
        found = await self._ledger.jobs(caller.tenant, page, owner=owner, metadata=metadata)
        return [await self.view(job) for job in found[: page.limit]], len(found) > page.limit

    async def events(self, caller: Caller, job_id: str, page: Page) -> tuple[list[JobEvent], bool]:
        """Return a page of a job's events, and whether more follow."""
        await own_job(self._ledger, caller, job_id)
        found = await self._ledger.events(job_id, page)
        return found[: page.limit], len(found) > page.limit

    async def checkpoints(self, caller: Caller, job_id: str, page: Page) -> tuple[list[CheckpointView], bool]:
        """Return a page of a job's checkpoints, and whether more follow."""
        job = await own_job(self._ledger, caller, job_id)
        found = await self._ledger.checkpoints(job_id, page)
        views = [CheckpointView(one, _model_of(job, one)) for one in found[: page.limit]]
        return views, len(found) > page.limit

    async def cancel(self, caller: Caller, job_id: str) -> JobView:
        """End a job, and with it those that wait for it.

        Raises:
            Conflict: It has ended already.
        """
        async with self._ledger.change() as change:
            job = await own_job(change, caller, job_id)
            job = await self.end(change, job, JobStatus.CANCELLED, "The job was cancelled")
        return await self.view(job)

    async def end(self, change: Change, job: TuningJob, status: JobStatus, reason: str) -> TuningJob:
        """Cancel a job in any state that is not final, with everything that waits for it."""
        ended = job.moved(status, self._now())
        await change.withdraw_work(job.job_id)
        await change.put_job(ended)
        await change.add_event(job.tenant, event(ended, self._now(), reason, level="warn"))
        await change.tell_webhooks(ended)
        self._metrics.ended.labels(stage=job.wanted.stage.value, outcome=status.value).inc()
        for waiting in await change.jobs_waiting_for(job.tenant, job.job_id):
            if waiting.status not in FINAL:
                await self.end(change, waiting, status, f"The job was cancelled with {job.job_id}")
        return ended

    async def pause(self, caller: Caller, job_id: str) -> JobView:
        """Stop a job: one that trains at its next step, with a checkpoint; one that waits at once.

        Raises:
            Conflict: It has ended, or is paused already.
        """
        async with self._ledger.change() as change:
            job = await own_job(change, caller, job_id)
            if job.status is JobStatus.RUNNING:
                job.check_stoppable()
                job = replace(job, pausing=True)
                said = "Pausing at the next step"
            else:
                job = job.moved(JobStatus.PAUSED, self._now())
                await change.withdraw_work(job.job_id)
                said = "The job was paused"
            await change.put_job(job)
            await change.add_event(job.tenant, event(job, self._now(), said))
        return await self.view(job)

    async def resume(self, caller: Caller, job_id: str) -> JobView:
        """Go on with a paused job, from its last checkpoint where there is one.

        Raises:
            Conflict: It is not paused.
        """
        async with self._ledger.change() as change:
            job = await own_job(change, caller, job_id)
            if job.status is not JobStatus.PAUSED:
                raise Conflict(
                    f"The job is {job.status.value}; only a paused one can be resumed.", param="fine_tuning_job_id"
                )
            checked = job.spec is not None
            job = job.moved(JobStatus.QUEUED if checked else JobStatus.VALIDATING, self._now())
            await change.put_job(job)
            await change.add_event(job.tenant, event(job, self._now(), "The job was resumed"))
            if not job.waits_for:
                await change.enqueue(TRAIN_JOB if checked else VALIDATE_JOB, job.job_id, job.tenant)
        return await self.view(job)

    async def view(self, job: TuningJob) -> JobView:
        """Return a job with its place in the queue and the time it is thought to end."""
        if job.is_published:
            # Told of when it can be asked.
            job = replace(job, fine_tuned_model="", result_files=())
        if job.status not in {JobStatus.QUEUED, JobStatus.RUNNING}:
            return JobView(job)
        now = self._now()
        ahead = [] if job.status is JobStatus.RUNNING else await self._ledger.jobs_ahead(job)
        waiting = sum(1 for other in ahead if other.status is JobStatus.QUEUED)
        running = sum(1 for other in ahead if other.status is JobStatus.RUNNING)
        position = waiting + 1 if running >= self._devices or waiting else 0
        own = job.remaining_s(now)
        if not own:
            return JobView(job, position)
        return JobView(job, position, now + own + sum(other.remaining_s(now) for other in ahead) / self._devices)

    async def _check_reward_model(self, reading: Reading, caller: Caller, job_id: str) -> None:
        maker = await reading.job(caller.tenant, job_id)
        if maker is None or maker.wanted.stage is not Stage.REWARD_MODEL:
            raise NotFound(f"reward_model: there is no reward model job {job_id[:80]!r}.", param="brain.reward_model")
        if maker.status is not JobStatus.SUCCEEDED:
            raise Conflict(f"reward_model: job {job_id} is {maker.status.value}.", param="brain.reward_model")


async def resolve_model(reading: Reading, caller: Caller, model: str, *, base_model: str) -> str:
    """Return the adapter that a job starts from; empty for the base model.

    Raises:
        NotFound: There is no such model.
        Conflict: The adapter is blocked.
    """
    if model in {"", "default", base_model}:
        return ""
    alias = await reading.alias(caller.tenant, model)
    if alias is not None and alias.target in {"", base_model}:
        return ""
    version = await known_adapter(reading, caller, alias.target if alias else model, param="model")
    if version.status is AdapterStatus.BLOCKED:
        raise Conflict(f"model: {version.name} is blocked ({version.reason or version.reason_code}).", param="model")
    return version.name


def _model_of(job: TuningJob, checkpoint: Checkpoint) -> str:
    if not checkpoint.adapter:
        return ""
    name = adapter_name(base=job.base_model, tenant=job.tenant, suffix=job.suffix, job_id=job.job_id)
    # The state at a job's last step is its adapter.
    last = job.step if job.status is JobStatus.SUCCEEDED else job.total_steps
    return name if last and checkpoint.step >= last else checkpoint_name(name, checkpoint.step)


def event(
    job: TuningJob,
    at: float,
    message: str,
    *,
    level: str = "info",
    kind: str = "message",
    data: dict[str, int | float | str] | None = None,
) -> JobEvent:
    """Return something that happened to a job."""
    return JobEvent(new_id("ftevent-"), job.job_id, at, level, message, kind, data or {})
