"""Training one job: prepare, run the trainer, keep what it says, bring it to its end."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import BrainError, Conflict, Internal, InvalidInput, NotFound, TooLarge, Unavailable
from services.chassis.ids import new_id
from services.chassis.jobs.table import Job
from services.finetuning.domain.jobs import Checkpoint, JobError, JobStatus, TuningJob, openai_metrics
from services.finetuning.domain.training import Stage, TrainingPlan
from services.finetuning.domain.training_messages import (
    CheckpointSaved,
    Finished,
    Message,
    Paused,
    Started,
)
from services.finetuning.domain.training_messages import Metrics as Measured
from services.finetuning.ports.delegation import Delegation
from services.finetuning.ports.records import Change, Ledger, Page
from services.finetuning.ports.serving import Serving
from services.finetuning.ports.training import Trainer
from services.finetuning.telemetry import TRAIN_SPAN, Metrics, spans
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.completing import Complete
from services.finetuning.usecases.jobs import event
from services.finetuning.usecases.preparing import Prepare, Rows
from services.finetuning.usecases.reading import ReadRows

__all__ = ["TrainJob"]

_log = structlog.get_logger()

# How often a running job looks whether its owner wants it to stop.
_LOOK_S: Final = 1.0


class TrainJob:
    """Trains jobs, one call a job. What it writes is fenced: a late copy of the same job can change nothing.

    Args:
        ledger: Records.
        trainer: Trains in a process of its own.
        read_rows: Reads training files.
        serving: The engine that will serve the adapter.
        prepare: Brings together what the trainer reads.
        complete: Publishes what it made.
        archives: Keeps checkpoints.
        delegation: Acts in the owner's name.
        scratch: Folder for what the trainer reads and writes.
        max_deaths: Times in a row that the trainer may die without reaching a further checkpoint.
        keep_checkpoints: Checkpoints that are kept.
        price_per_hour: What an hour of training costs; 0 for unknown.
        metrics: Where training is counted.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        trainer: Trainer,
        read_rows: ReadRows,
        serving: Serving,
        prepare: Prepare,
        complete: Complete,
        archives: Archives,
        delegation: Delegation,
        scratch: Path,
        max_deaths: int,
        keep_checkpoints: int,
        price_per_hour: float,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._trainer = trainer
        self._read_rows = read_rows
        self._serving = serving
        self._prepare = prepare
        self._complete = complete
        self._archives = archives
        self._delegation = delegation
        self._scratch = scratch
        self._max_deaths = max_deaths
        self._keep_checkpoints = keep_checkpoints
        self._price_per_hour = price_per_hour
        self._metrics = metrics
        self._now = now

    async def __call__(self, work: Job) -> None:
        """Bring a job to succeeded, failed or paused.

        Raises:
            Conflict: It was cancelled, or handed to another worker.
            Unavailable: Something passing; the job is to be tried again.
        """
        job = await self._begin(work)
        if job is None:
            return
        if job.is_published:
            with self._delegation.acting_for(job.owner.caller(job.tenant), work=job.job_id):
                await self._complete.finish(work, job)
            return
        # A folder of this hand-out alone: a late copy of the same job must not write into it.
        folder = self._scratch / f"{job.job_id}-{work.fence}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            with spans.start_as_current_span(TRAIN_SPAN) as span:
                span.set_attribute("brain.job_id", job.job_id)
                await self._train(work, job, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def fail(self, work: Job, error: BrainError) -> None:
        """Bring the job behind a piece of work that will not be tried again to failed."""
        await self._complete.fail(work, _said(error))

    async def _begin(self, work: Job) -> TuningJob | None:
        """Note that a job runs; None when there is nothing left to do."""
        async with self._ledger.change() as change:
            job = await change.job(work.tenant, work.key)
            if job is None or job.status not in {JobStatus.QUEUED, JobStatus.RUNNING}:
                await change.complete(work)
                return None
            await change.hold(work)
            if job.status is JobStatus.QUEUED:
                job = job.moved(JobStatus.RUNNING, self._now())
                await change.add_event(job.tenant, event(job, self._now(), "Fine-tuning job started"))
            else:
                # Whoever ran it fell silent; the time until now was not all training, and is not counted as such.
                job = replace(job, running_since=0.0 if job.is_published else self._now())
                await change.add_event(
                    job.tenant, event(job, self._now(), "The worker was lost; going on", level="warn")
                )
            await change.put_job(job)
        return job

    async def _train(self, work: Job, job: TuningJob, folder: Path) -> None:
        try:
            # Acted for anew at each end: a token does not live as long as a training.
            with self._delegation.acting_for(job.owner.caller(job.tenant), work=job.job_id):
                plan = await self._plan(job, folder)
        except (InvalidInput, TooLarge, NotFound, Conflict) as error:
            await self._complete.fail(work, _said(error))
            return
        while True:
            resume_from = await self._newest_checkpoint(job, folder)
            try:
                outcome = await self._run(work, job, plan, resume_from)
            except Unavailable as error:
                # The trainer was killed, or fell over: go on from what it kept, unless it gets no further.
                job = await self._died(work, job.job_id, error)
                continue
            except (InvalidInput, TooLarge, Internal) as error:
                await self._complete.fail(work, _said(error))
                return
            break
        if isinstance(outcome, Paused):
            await self._paused(work, job.job_id)
        else:
            with self._delegation.acting_for(job.owner.caller(job.tenant), work=job.job_id):
                await self._complete(work, outcome)

    async def _plan(self, job: TuningJob, folder: Path) -> TrainingPlan:
        """Read the rows once more and lay out what the trainer needs."""
        spec = job.spec or job.wanted
        limits = await self._serving.limits()
        stage = spec.stage.value
        training = await self._read_rows(job.training_file, stage=stage)
        validation = None
        if job.validation_file:
            validation = await self._read_rows(job.validation_file, stage=stage, param="validation_file")
        settings = await self._prepare.settings(job, spec, limits, rows=len(training.rows))
        return await self._prepare.plan(job, settings, limits, Rows(training, validation), folder)

    async def _run(self, work: Job, job: TuningJob, plan: TrainingPlan, resume_from: Path | None) -> Finished | Paused:
        """Run the trainer to its end, while looking whether the job is still wanted.

        Raises:
            Conflict: The job was cancelled, or handed to another worker.
        """
        pause = asyncio.Event()

        async def heard(message: Message) -> None:
            await self._heard(work, job.job_id, plan, message)

        training = asyncio.create_task(
            self._trainer.train(plan, resume_from=resume_from, on_message=heard, pause=pause)
        )
        watching = asyncio.create_task(self._watch(work, job.job_id, pause))
        try:
            await asyncio.wait({watching, training}, return_when=asyncio.FIRST_COMPLETED)
            if not training.done():
                # It only ends by raising: the job is no longer ours.
                await watching
            return await training
        finally:
            for task in (watching, training):
                task.cancel()
            await asyncio.gather(watching, training, return_exceptions=True)

    async def _watch(self, work: Job, job_id: str, pause: asyncio.Event) -> None:
        """Stop the trainer when its owner, or the budget, says so; for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(Unavailable):
                job = await self._ledger.job(work.tenant, job_id)
                if job is None or job.status is not JobStatus.RUNNING:
                    raise Conflict(f"Job {job_id} is no longer to be trained.")
                if not job.pausing and (spent := self._over_budget(job)):
                    job = await self._stop_for_budget(work, job, spent)
                if job.pausing:
                    pause.set()

    async def _heard(self, work: Job, job_id: str, plan: TrainingPlan, message: Message) -> None:
        match message:
            case Started():
                async with self._held(work, job_id) as (change, job):
                    await change.put_job(replace(job, total_steps=message.total_steps))
            case Measured():
                async with self._held(work, job_id) as (change, job):
                    values = openai_metrics(message.values)
                    said = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if name in _SHOWN)
                    data: dict[str, int | float | str] = {"step": message.step, "epoch": message.epoch, **values}
                    await change.add_event(
                        job.tenant,
                        event(
                            job,
                            self._now(),
                            f"Step {message.step}/{job.total_steps}: {said}",
                            kind="metrics",
                            data=data,
                        ),
                    )
                    await change.put_job(
                        replace(
                            job,
                            step=max(job.step, message.step),
                            metrics={**job.metrics, **values},
                            trained_tokens=int(values.get("trained_tokens", job.trained_tokens)),
                        )
                    )
            case CheckpointSaved():
                await self._keep(work, job_id, plan.stage, message)
            case _:
                return

    async def _keep(self, work: Job, job_id: str, stage: Stage, saved: CheckpointSaved) -> None:
        """Keep a checkpoint, then forget those that are too old."""
        key = f"{work.tenant}/tuning/{job_id}/step-{saved.step}-{work.fence}.tar"
        await self._archives.keep(saved.folder, key)
        served = saved.adapter_folder if stage.makes_adapter else None
        adapter = "" if served is None else str(served.relative_to(saved.folder))
        checkpoint = Checkpoint(
            new_id("ftckpt_"), job_id, self._now(), saved.step, openai_metrics(saved.metrics), key, adapter
        )
        try:
            async with self._held(work, job_id) as (change, job):
                await change.add_checkpoint(work.tenant, checkpoint)
                everything = await change.checkpoints(job_id, Page(1000))
                old = everything[self._keep_checkpoints :]
                await change.remove_checkpoints([one.checkpoint_id for one in old])
                await change.put_job(replace(job, step=max(job.step, saved.step), deaths=0))
                data: dict[str, int | float | str] = {"step": saved.step, "checkpoint": checkpoint.checkpoint_id}
                await change.add_event(
                    job.tenant, event(job, self._now(), f"Checkpoint created at step {saved.step}", data=data)
                )
        except Conflict:
            await self._archives.forget([key])
            raise
        await self._archives.forget([one.blob_key for one in old])

    async def _newest_checkpoint(self, job: TuningJob, folder: Path) -> Path | None:
        found = await self._ledger.checkpoints(job.job_id, Page(1))
        if not found:
            return None
        return await self._archives.fetch(found[0].blob_key, folder / "resume" / f"step-{found[0].step}")

    async def _died(self, work: Job, job_id: str, error: Unavailable) -> TuningJob:
        """Count a death of the trainer; return the job, which goes on.

        Raises:
            Internal: It died too often without getting further.
        """
        self._metrics.deaths.inc()
        async with self._held(work, job_id) as (change, job):
            dead = replace(job, deaths=job.deaths + 1)
            await change.put_job(dead)
            kept = await change.checkpoints(job_id, Page(1))
            where = f"from step {kept[0].step}" if kept else "from the start"
            await change.add_event(
                job.tenant,
                event(job, self._now(), f"The trainer ended unexpectedly; going on {where}", level="warn"),
            )
        _log.warning("trainer_died", job_id=job_id, deaths=dead.deaths, reason=error.message, private=error.private)
        if dead.deaths > self._max_deaths:
            raise Internal(
                f"The trainer ended {dead.deaths} times without reaching a further checkpoint.", private=error.private
            )
        return dead

    async def _paused(self, work: Job, job_id: str) -> None:
        async with self._held(work, job_id) as (change, job):
            await change.complete(work)
            stopped = job.moved(JobStatus.PAUSED, self._now())
            await change.put_job(stopped)
            await change.add_event(job.tenant, event(stopped, self._now(), f"The job was paused at step {job.step}"))

    def _over_budget(self, job: TuningJob) -> str:
        """Return what is spent, in words, when that is the budget; empty otherwise."""
        spec = job.spec or job.wanted
        spent_s = job.spent_s + self._now() - job.running_since
        if spec.budget_s is not None and spent_s >= spec.budget_s:
            return f"{spent_s:.0f} of {spec.budget_s:.0f} s"
        cost = spent_s / 3600 * self._price_per_hour
        if spec.budget_cost is not None and cost >= spec.budget_cost:
            return f"{cost:.2f} of {spec.budget_cost:.2f}"
        return ""

    async def _stop_for_budget(self, work: Job, job: TuningJob, spent: str) -> TuningJob:
        async with self._held(work, job.job_id) as (change, current):
            stopping = replace(current, pausing=True)
            await change.put_job(stopping)
            await change.add_event(
                job.tenant, event(job, self._now(), f"The budget is spent ({spent}); pausing", level="warn")
            )
        return stopping

    @contextlib.asynccontextmanager
    async def _held(self, work: Job, job_id: str) -> AsyncIterator[tuple[Change, TuningJob]]:
        """Yield a transaction and the job in it, while the work is this worker's."""
        async with self._ledger.change() as change:
            await change.hold(work)
            job = await change.job(work.tenant, job_id)
            if job is None:
                raise Conflict(f"Job {job_id} is gone.")
            yield change, job


# Metrics that an event says in words; the rest is in its data.
_SHOWN: Final = frozenset({"train_loss", "valid_loss", "train_mean_token_accuracy", "reward", "kl", "tokens_per_s"})


def _said(error: BrainError) -> JobError:
    code = "training_failed" if isinstance(error, Internal | Unavailable) else error.code
    return JobError(code, error.message, error.param or "")
