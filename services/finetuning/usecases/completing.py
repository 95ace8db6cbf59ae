"""The end of a job: its adapter is published, or it fails, and whoever waits for it is told."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import BrainError, Conflict, InvalidInput, TooLarge
from services.chassis.jobs.table import Job
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, adapter_name, checkpoint_name
from services.finetuning.domain.jobs import (
    FINAL,
    VALIDATE_JOB,
    Checkpoint,
    JobError,
    JobStatus,
    TuningJob,
    openai_metrics,
    result_csv,
)
from services.finetuning.domain.training_messages import Finished
from services.finetuning.ports.files import Files
from services.finetuning.ports.records import Change, Ledger, Page
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.jobs import event
from services.finetuning.usecases.publishing import Publish, Upload, merged_sources
from services.finetuning.usecases.settling import AwaitEngine

__all__ = ["Complete", "reward_model_key"]

_log = structlog.get_logger()

RESULTS: Final = "fine-tune-results"


def reward_model_key(tenant: str, job_id: str) -> str:
    """Return where the reward model that a job made lies."""
    return f"{tenant}/tuning/{job_id}/reward-model.tar"


@dataclass(frozen=True, slots=True)
class _Uploaded:
    """An adapter whose files are kept: a job's own (step 0), or that of a checkpoint."""

    name: str
    step: int
    metrics: dict[str, float]
    upload: Upload


class Complete:
    """Brings jobs to their end.

    What a job made is published in one transaction, and its success is noted in a second one, when the engine answers
    for it: whoever reads of the success and asks the new model at once is answered. In between the job can no longer be
    stopped, and a worker that takes it over only notes its end.

    Args:
        ledger: Records.
        publish: Makes adapter versions.
        await_engine: Waits until they are served.
        archives: Keeps reward models, and holds checkpoints.
        files: Keeps result files.
        scratch: Folder for checkpoints that are published.
        metrics: Where ends are counted.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        publish: Publish,
        await_engine: AwaitEngine,
        archives: Archives,
        files: Files,
        scratch: Path,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._await_engine = await_engine
        self._archives = archives
        self._files = files
        self._scratch = scratch
        self._metrics = metrics
        self._now = now

    async def __call__(self, work: Job, finished: Finished) -> None:
        """Publish what a trainer made; called in the name of the job's owner.

        Raises:
            Conflict: The job was cancelled, or handed to another worker; nothing was published.
            Unavailable: Something passing; the job is to be tried again.
        """
        job = await self._ledger.job(work.tenant, work.key)
        if job is None:
            raise Conflict(f"Job {work.key} is gone.")
        uploads: list[_Uploaded] = []
        try:
            if finished.reward_model_folder is not None:
                await self._archives.keep(finished.reward_model_folder, reward_model_key(job.tenant, job.job_id))
            if finished.adapter_folder is not None:
                uploads = await self._upload(job, finished.adapter_folder, finished)
        except (InvalidInput, TooLarge) as error:
            await self.fail(work, JobError("adapter_refused", error.message, error.param or ""))
            return
        try:
            sources = await self._sources(job)
            principals = await self._publish.audience(job.audience, job.owner, job.tenant, sources)
            result = await self._result_file(job)
        except BrainError:
            await self._discard(uploads)
            raise
        try:
            async with self._ledger.change() as change:
                await change.hold(work)
                made = await self._made(change, work, finished, uploads, sources, principals, result)
        except Conflict:
            # Surely not kept, unlike after a database that went away.
            await self._discard(uploads)
            raise
        await self.finish(work, made)

    async def finish(self, work: Job, job: TuningJob) -> None:
        """Bring a job to succeeded whose adapters, if it makes any, are published; called in the name of its owner.

        Raises:
            Conflict: The job was handed to another worker.
            Unavailable: Something passing; the job is to be tried again.
        """
        versions = await self._ledger.adapters_of_job(job.tenant, job.job_id) if job.fine_tuned_model else []
        reason = await self._await_engine([one.name for one in versions if one.status is AdapterStatus.PUBLISHED])
        async with self._ledger.change() as change:
            if reason:
                await change.add_event(
                    job.tenant, event(job, self._now(), f"The model is not served yet: {reason}", level="warn")
                )
            await self._succeed(change, work)

    async def fail(self, work: Job, error: JobError) -> None:
        """Bring a job to failed, and with it those that wait for it; one whose adapter is published has succeeded."""
        async with self._ledger.change() as change:
            job = await change.job(work.tenant, work.key)
            if job is not None and job.is_published:
                await self._succeed(change, work)
                return
            await change.complete(work)
            if job is None or job.status in FINAL:
                return
            await self._fail(change, job, error)

    async def _fail(self, change: Change, job: TuningJob, error: JobError) -> None:
        failed = job.failed(error, self._now())
        await change.put_job(failed)
        await change.add_event(
            job.tenant, event(failed, self._now(), f"The job failed: {error.message}", level="error")
        )
        await change.tell_webhooks(failed)
        self._metrics.ended.labels(stage=job.wanted.stage.value, outcome="failed").inc()
        _log.warning("tuning_job_failed", job_id=job.job_id, code=error.code)
        for waiting in await change.jobs_waiting_for(job.tenant, job.job_id):
            if waiting.status not in FINAL:
                await self._fail(
                    change, waiting, JobError("stage_failed", f"{job.job_id}, which it waited for, failed")
                )

    async def _made(
        self,
        change: Change,
        work: Job,
        finished: Finished,
        uploads: list[_Uploaded],
        sources: tuple[AdapterSource, ...],
        principals: tuple[str, ...],
        result: str,
    ) -> TuningJob:
        """Publish what a job made, and note its results."""
        job = await change.job(work.tenant, work.key)
        if job is None:
            raise Conflict(f"Job {work.key} is gone.")
        number = 0
        for one in uploads:
            version = await self._publish.add(
                change,
                name=one.name,
                tenant=job.tenant,
                suffix=job.suffix,
                owner=job.owner,
                upload=one.upload,
                principals=principals,
                sources=sources,
                job=job,
                step=one.step,
                number=number,
                settings_json=json.dumps(asdict(job.spec or job.wanted)),
                metrics=one.metrics,
            )
            number = version.number
        made = replace(
            job,
            fine_tuned_model=uploads[0].name if uploads else "",
            result_files=(result,),
            trained_tokens=finished.trained_tokens,
            step=finished.step,
            metrics={**job.metrics, **openai_metrics(finished.metrics)},
            # Waiting for the engine is no training.
            spent_s=job.spent_s + (self._now() - job.running_since if job.running_since else 0.0),
            running_since=0.0,
        )
        await change.put_job(made)
        return made

    async def _succeed(self, change: Change, work: Job) -> None:
        await change.complete(work)
        job = await change.job(work.tenant, work.key)
        if job is None:
            raise Conflict(f"Job {work.key} is gone.")
        done = job.moved(JobStatus.SUCCEEDED, self._now())
        await change.put_job(done)
        await change.add_event(job.tenant, event(done, self._now(), "The job has successfully completed"))
        await change.tell_webhooks(done)
        await self._release(change, done)
        stage = job.wanted.stage.value
        self._metrics.ended.labels(stage=stage, outcome="succeeded").inc()
        self._metrics.trained_tokens.labels(stage=stage).inc(done.trained_tokens)
        self._metrics.training.labels(stage=stage).observe(done.spent_s)
        _log.info("tuning_job_succeeded", job_id=job.job_id, adapter=done.fine_tuned_model)

    async def _release(self, change: Change, done: TuningJob) -> None:
        """Let the jobs that waited for this one begin."""
        for waiting in await change.jobs_waiting_for(done.tenant, done.job_id):
            if waiting.status in FINAL:
                continue
            parent = waiting.parent
            if waiting.parent_job:
                maker = await change.job(done.tenant, waiting.parent_job)
                parent = maker.fine_tuned_model if maker else ""
            released = replace(waiting, waits_for="", parent=parent, model=parent or waiting.base_model)
            await change.put_job(released)
            if released.status is JobStatus.VALIDATING:
                await change.enqueue(VALIDATE_JOB, released.job_id, released.tenant)
                await change.add_event(
                    released.tenant,
                    event(released, self._now(), f"Validating training file: {released.training_file}"),
                )

    async def _upload(self, job: TuningJob, adapter: Path, finished: Finished) -> list[_Uploaded]:
        """Upload the adapter, and those of the checkpoints that are kept; the adapter comes first."""
        name = adapter_name(base=job.base_model, tenant=job.tenant, suffix=job.suffix, job_id=job.job_id)
        upload = await self._publish.upload(job.tenant, name, adapter)
        uploads = [_Uploaded(name, 0, openai_metrics(finished.metrics), upload)]
        try:
            for checkpoint in await self._ledger.checkpoints(job.job_id, Page(100)):
                # The end of the job is the adapter itself.
                if checkpoint.step >= finished.step or not checkpoint.adapter:
                    continue
                uploads.append(await self._upload_checkpoint(job, name, checkpoint))
        except BrainError:
            await self._discard(uploads)
            raise
        return uploads

    async def _upload_checkpoint(self, job: TuningJob, name: str, checkpoint: Checkpoint) -> _Uploaded:
        own = checkpoint_name(name, checkpoint.step)
        folder = await self._archives.fetch(checkpoint.blob_key, self._scratch / checkpoint.checkpoint_id)
        try:
            upload = await self._publish.upload(job.tenant, own, folder / checkpoint.adapter)
        finally:
            await asyncio.to_thread(_remove, folder)
        return _Uploaded(own, checkpoint.step, checkpoint.metrics, upload)

    async def _discard(self, uploads: list[_Uploaded]) -> None:
        for one in uploads:
            await self._publish.discard(one.upload)

    async def _sources(self, job: TuningJob) -> tuple[AdapterSource, ...]:
        """Return what an adapter learned from: the job's own rows, its parents', and those of its reward model."""
        parts: list[tuple[AdapterSource, ...]] = [merged_sources([job.sources])]
        if job.parent:
            parts.append(tuple(await self._ledger.sources(job.tenant, job.parent)))
        if job.wanted.reward_model:
            maker = await self._ledger.job(job.tenant, job.wanted.reward_model)
            if maker is not None:
                parts.append(await self._sources(maker))
        return merged_sources(parts)

    async def _result_file(self, job: TuningJob) -> str:
        rows = await self._ledger.metrics(job.job_id)
        kept = await self._files.upload(f"{job.job_id}-metrics.csv", [result_csv(rows)], purpose=RESULTS)
        return kept.file_id


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
