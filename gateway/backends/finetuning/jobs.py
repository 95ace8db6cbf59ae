"""Training jobs, graders and webhooks over gRPC."""

from collections.abc import Mapping, Sequence
from typing import Final

import grpc

from brain.finetuning.v1 import grader_pb2, job_pb2, webhook_pb2
from brain.finetuning.v1.grader_pb2_grpc import GraderServiceStub
from brain.finetuning.v1.job_pb2_grpc import JobServiceStub
from brain.finetuning.v1.webhook_pb2_grpc import WebhookServiceStub
from gateway.backends.finetuning import words
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S
from gateway.domain.keeping import Page, Paging
from gateway.domain.tuning import Check, Checkpoint, Grade, Job, JobEvent, NewJob, Webhook
from services.chassis.rpc.client import remote

__all__ = ["GrpcGraders", "GrpcJobs", "GrpcWebhooks"]

_ROOM: Final = "finetuning"
# The dry run trains a few steps of the user's own rows on a machine that may be busy.
_CHECK_TIMEOUT_S: Final = 600.0


class GrpcJobs:
    """Training jobs.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = JobServiceStub(channel)

    async def create(self, new: NewJob) -> Job:
        """Keep a job and queue its validation."""
        with remote(_ROOM, "CreateJob") as metadata:
            answer = await self._stub.CreateJob(words.new_job_to(new), timeout=WORK_TIMEOUT_S, metadata=metadata)
        return words.job(answer.job)

    async def check(self, new: NewJob, *, skip_dry_run: bool = False) -> Check:
        """Do what validation would do, and estimate, without keeping a job."""
        request = job_pb2.CheckJobRequest(job=words.new_job_to(new), skip_dry_run=skip_dry_run)
        with remote(_ROOM, "CheckJob") as metadata:
            answer = await self._stub.CheckJob(request, timeout=_CHECK_TIMEOUT_S, metadata=metadata)
        return Check(answer.trainable, answer.report_json)

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        request = job_pb2.GetJobRequest(job_id=job_id)
        with remote(_ROOM, "GetJob") as metadata:
            return words.job((await self._stub.GetJob(request, timeout=READ_TIMEOUT_S, metadata=metadata)).job)

    async def list(
        self, paging: Paging, *, metadata: Mapping[str, str] | None = None, without_metadata: bool = False
    ) -> Page[Job]:
        """Return the tenant's jobs, newest first."""
        request = job_pb2.ListJobsRequest(
            limit=paging.limit, after=paging.after, metadata=dict(metadata or {}), without_metadata=without_metadata
        )
        with remote(_ROOM, "ListJobs") as headers:
            answer = await self._stub.ListJobs(request, timeout=READ_TIMEOUT_S, metadata=headers)
        return Page(tuple(words.job(one) for one in answer.jobs), answer.has_more)

    async def cancel(self, job_id: str) -> Job:
        """End a job that has not ended."""
        request = job_pb2.CancelJobRequest(job_id=job_id)
        with remote(_ROOM, "CancelJob") as metadata:
            return words.job((await self._stub.CancelJob(request, timeout=READ_TIMEOUT_S, metadata=metadata)).job)

    async def pause(self, job_id: str) -> Job:
        """Stop a running job at its next checkpoint."""
        request = job_pb2.PauseJobRequest(job_id=job_id)
        with remote(_ROOM, "PauseJob") as metadata:
            return words.job((await self._stub.PauseJob(request, timeout=READ_TIMEOUT_S, metadata=metadata)).job)

    async def resume(self, job_id: str) -> Job:
        """Go on from the last checkpoint."""
        request = job_pb2.ResumeJobRequest(job_id=job_id)
        with remote(_ROOM, "ResumeJob") as metadata:
            return words.job((await self._stub.ResumeJob(request, timeout=READ_TIMEOUT_S, metadata=metadata)).job)

    async def events(self, job_id: str, paging: Paging) -> Page[JobEvent]:
        """Return a job's events, newest first."""
        request = job_pb2.ListEventsRequest(job_id=job_id, limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListEvents") as metadata:
            answer = await self._stub.ListEvents(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.event(one) for one in answer.events), answer.has_more)

    async def checkpoints(self, job_id: str, paging: Paging) -> Page[Checkpoint]:
        """Return a job's checkpoints, newest first."""
        request = job_pb2.ListCheckpointsRequest(job_id=job_id, limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListCheckpoints") as metadata:
            answer = await self._stub.ListCheckpoints(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.checkpoint(one) for one in answer.checkpoints), answer.has_more)


class GrpcGraders:
    """Graders.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = GraderServiceStub(channel)

    async def validate(self, grader_json: str) -> str:
        """Return a grader with its defaults."""
        request = grader_pb2.ValidateGraderRequest(grader_json=grader_json)
        with remote(_ROOM, "ValidateGrader") as metadata:
            answer = await self._stub.ValidateGrader(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return answer.grader_json

    async def run(self, grader_json: str, *, sample: str, item_json: str) -> Grade:
        """Grade one answer to one row."""
        request = grader_pb2.RunGraderRequest(grader_json=grader_json, model_sample=sample, item_json=item_json)
        with remote(_ROOM, "RunGrader") as metadata:
            answer = await self._stub.RunGrader(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return Grade(answer.reward, dict(answer.sub_rewards), answer.metadata_json)


class GrpcWebhooks:
    """Addresses that are told when jobs end.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = WebhookServiceStub(channel)

    async def create(self, url: str, events: Sequence[str]) -> tuple[Webhook, str]:
        """Keep an address; return it and the secret to check signatures with."""
        request = webhook_pb2.CreateWebhookRequest(url=url, events=events)
        with remote(_ROOM, "CreateWebhook") as metadata:
            answer = await self._stub.CreateWebhook(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.webhook(answer.webhook), answer.secret

    async def list(self) -> Sequence[Webhook]:
        """Return the tenant's addresses, oldest first."""
        with remote(_ROOM, "ListWebhooks") as metadata:
            answer = await self._stub.ListWebhooks(
                webhook_pb2.ListWebhooksRequest(), timeout=READ_TIMEOUT_S, metadata=metadata
            )
        return [words.webhook(one) for one in answer.webhooks]

    async def delete(self, webhook_id: str) -> None:
        """Forget an address."""
        request = webhook_pb2.DeleteWebhookRequest(webhook_id=webhook_id)
        with remote(_ROOM, "DeleteWebhook") as metadata:
            await self._stub.DeleteWebhook(request, timeout=READ_TIMEOUT_S, metadata=metadata)
