"""JobService."""

import json
from typing import Final

from brain.finetuning.v1 import job_pb2
from services.chassis.auth import current_caller
from services.finetuning.api.wire import moment, page_of, spec_message, spec_of
from services.finetuning.domain.jobs import JobEvent, JobStatus
from services.finetuning.usecases.jobs import CheckpointView, Jobs, JobView, NewJob
from services.finetuning.usecases.validating import CheckJob

__all__ = ["JobServicer"]

_STATUS: Final = {
    JobStatus.VALIDATING: job_pb2.JOB_STATUS_VALIDATING_FILES,
    JobStatus.QUEUED: job_pb2.JOB_STATUS_QUEUED,
    JobStatus.RUNNING: job_pb2.JOB_STATUS_RUNNING,
    JobStatus.PAUSED: job_pb2.JOB_STATUS_PAUSED,
    JobStatus.SUCCEEDED: job_pb2.JOB_STATUS_SUCCEEDED,
    JobStatus.FAILED: job_pb2.JOB_STATUS_FAILED,
    JobStatus.CANCELLED: job_pb2.JOB_STATUS_CANCELLED,
}


class JobServicer:
    """Jobs over gRPC."""

    def __init__(self, *, jobs: Jobs, check: CheckJob) -> None:
        self._jobs = jobs
        self._check = check

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: object) -> job_pb2.CreateJobResponse:
        """Keep a job and have its files checked."""
        made = await self._jobs.create(current_caller(), _new_job(request))
        return job_pb2.CreateJobResponse(job=_job(made))

    async def CheckJob(self, request: job_pb2.CheckJobRequest, context: object) -> job_pb2.CheckJobResponse:
        """Check and estimate without keeping a job."""
        report = await self._check(current_caller(), _new_job(request.job), dry_run=not request.skip_dry_run)
        return job_pb2.CheckJobResponse(trainable=report.trainable, report_json=report.report_json)

    async def GetJob(self, request: job_pb2.GetJobRequest, context: object) -> job_pb2.GetJobResponse:
        """Return a job."""
        return job_pb2.GetJobResponse(job=_job(await self._jobs.get(current_caller(), request.job_id)))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: object) -> job_pb2.ListJobsResponse:
        """Return a page of jobs."""
        metadata = None if request.without_metadata else dict(request.metadata)
        found, has_more = await self._jobs.page(current_caller(), page_of(request), metadata)
        return job_pb2.ListJobsResponse(jobs=[_job(one) for one in found], has_more=has_more)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: object) -> job_pb2.CancelJobResponse:
        """End a job."""
        return job_pb2.CancelJobResponse(job=_job(await self._jobs.cancel(current_caller(), request.job_id)))

    async def PauseJob(self, request: job_pb2.PauseJobRequest, context: object) -> job_pb2.PauseJobResponse:
        """Stop a job so that it can go on."""
        return job_pb2.PauseJobResponse(job=_job(await self._jobs.pause(current_caller(), request.job_id)))

    async def ResumeJob(self, request: job_pb2.ResumeJobRequest, context: object) -> job_pb2.ResumeJobResponse:
        """Go on with a paused job."""
        return job_pb2.ResumeJobResponse(job=_job(await self._jobs.resume(current_caller(), request.job_id)))

    async def ListEvents(self, request: job_pb2.ListEventsRequest, context: object) -> job_pb2.ListEventsResponse:
        """Return a page of a job's events."""
        found, has_more = await self._jobs.events(current_caller(), request.job_id, page_of(request))
        return job_pb2.ListEventsResponse(events=[_event(one) for one in found], has_more=has_more)

    async def ListCheckpoints(
        self, request: job_pb2.ListCheckpointsRequest, context: object
    ) -> job_pb2.ListCheckpointsResponse:
        """Return a page of a job's checkpoints."""
        page = page_of(request, default=10)
        found, has_more = await self._jobs.checkpoints(current_caller(), request.job_id, page)
        return job_pb2.ListCheckpointsResponse(checkpoints=[_checkpoint(one) for one in found], has_more=has_more)


def _new_job(request: job_pb2.CreateJobRequest) -> NewJob:
    return NewJob(
        model=request.model,
        training_file=request.training_file,
        validation_file=request.validation_file,
        suffix=request.suffix,
        seed=request.seed if request.HasField("seed") else None,
        metadata=dict(request.metadata),
        method_json=request.method_json,
        integrations_json=request.integrations_json,
        spec=spec_of(request.spec),
        audience=tuple(request.audience),
    )


def _job(view: JobView) -> job_pb2.Job:
    job = view.job
    message = job_pb2.Job(
        job_id=job.job_id,
        created_at=moment(job.created_at),
        finished_at=moment(job.finished_at),
        status=_STATUS[job.status],
        model=job.model,
        base_model=job.base_model,
        fine_tuned_model=job.fine_tuned_model,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=job.result_files,
        suffix=job.suffix,
        seed=job.seed,
        metadata=job.metadata,
        method_json=job.method_json,
        spec=spec_message(job.spec or job.wanted),
        trained_tokens=job.trained_tokens,
        estimated_finish=moment(view.estimated_finish),
        queue_position=view.queue_position,
        step=job.step,
        total_steps=job.total_steps,
        report_json=job.report_json,
        owner=job.owner.subject,
        integrations_json=job.integrations_json,
        metrics_json=json.dumps(job.metrics) if job.metrics else "",
    )
    if job.error is not None:
        message.error.code = job.error.code
        message.error.message = job.error.message
        message.error.param = job.error.param
    return message


def _event(event: JobEvent) -> job_pb2.JobEvent:
    return job_pb2.JobEvent(
        event_id=event.event_id,
        created_at=moment(event.created_at),
        level=event.level,
        message=event.message,
        type=event.kind,
        data_json=json.dumps(event.data) if event.data else "",
    )


def _checkpoint(view: CheckpointView) -> job_pb2.Checkpoint:
    checkpoint = view.checkpoint
    return job_pb2.Checkpoint(
        checkpoint_id=checkpoint.checkpoint_id,
        created_at=moment(checkpoint.created_at),
        model=view.model,
        job_id=checkpoint.job_id,
        step=checkpoint.step,
        metrics_json=json.dumps(checkpoint.metrics),
    )
