"""A finetuning room that trains nothing: it keeps what it is told, and answers in the room's own language over gRPC."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from brain.finetuning.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    dataset_pb2,
    dataset_pb2_grpc,
    grader_pb2,
    grader_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    promotion_pb2,
    promotion_pb2_grpc,
    webhook_pb2,
    webhook_pb2_grpc,
)
from services.chassis.auth import ANYONE, TokenVerifier, current_caller
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.rpc.server import RpcServer, methods_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CLOSED: set[Any] = {job_pb2.JOB_STATUS_SUCCEEDED, job_pb2.JOB_STATUS_FAILED, job_pb2.JOB_STATUS_CANCELLED}
REPORT = {"findings": [{"severity": "error", "code": "masked", "message": "no label", "lines": [3]}]}


def stamp(seconds: float = 0) -> Timestamp:
    return Timestamp(seconds=int((NOW + timedelta(seconds=seconds)).timestamp()))


def page(items: list[Any], identity: Callable[[Any], str], request: Any, usual: int = 20) -> tuple[list[Any], bool]:
    """Return a stretch of a list that is newest first, and whether more follow."""
    ids = [identity(one) for one in items]
    start = ids.index(request.after) + 1 if request.after else 0
    limit = request.limit or usual
    return items[start : start + limit], len(items) > start + limit


@dataclass
class Room:
    """What the room keeps, and what it was asked."""

    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    events: dict[str, list[job_pb2.JobEvent]] = field(default_factory=dict)
    checkpoints: dict[str, list[job_pb2.Checkpoint]] = field(default_factory=dict)
    adapters: dict[str, adapter_pb2.Adapter] = field(default_factory=dict)
    datasets: dict[str, dataset_pb2.Dataset] = field(default_factory=dict)
    promotions: dict[str, promotion_pb2.Promotion] = field(default_factory=dict)
    webhooks: dict[str, webhook_pb2.Webhook] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    address: str = ""

    def find(self, kept: dict[str, Any], identity: str, param: str) -> Any:
        if identity not in kept:
            raise NotFound(f"{param}: {identity!r} was not found.", param=param)
        return kept[identity]

    def job(self, **more: Any) -> job_pb2.Job:
        """Keep a job that is queued."""
        given: dict[str, Any] = {"status": job_pb2.JOB_STATUS_QUEUED, "model": "base", "training_file": "file-1"} | more
        made = job_pb2.Job(
            job_id=f"ftjob-{len(self.jobs)}", created_at=stamp(len(self.jobs)), base_model="base", seed=7, **given
        )
        if made.spec.stage == job_pb2.STAGE_UNSPECIFIED:
            made.spec.stage = job_pb2.STAGE_SUPERVISED
        self.jobs[made.job_id] = made
        return made

    def adapter(self, name: str, **more: Any) -> adapter_pb2.Adapter:
        """Keep an adapter that is served."""
        given: dict[str, Any] = {"base_model": "base", "rank": 16, "version": 1} | more
        given.setdefault("state", adapter_pb2.ADAPTER_STATE_PUBLISHED)
        self.adapters[name] = adapter_pb2.Adapter(name=name, created_at=stamp(), **given)
        return self.adapters[name]


class Jobs(job_pb2_grpc.JobServiceServicer):
    def __init__(self, room: Room) -> None:
        self.room = room

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Any) -> job_pb2.CreateJobResponse:
        self.room.asked.append(request)
        spec = job_pb2.TrainingSpec()
        spec.CopyFrom(request.spec)
        spec.n_epochs = spec.n_epochs or 3
        made = self.room.job(
            model=request.model or "base",
            training_file=request.training_file,
            validation_file=request.validation_file,
            suffix=request.suffix,
            metadata=dict(request.metadata),
            method_json=request.method_json,
            integrations_json=request.integrations_json,
            spec=spec,
            owner=current_caller().subject,
            queue_position=len(self.room.jobs),
        )
        return job_pb2.CreateJobResponse(job=made)

    async def CheckJob(self, request: job_pb2.CheckJobRequest, context: Any) -> job_pb2.CheckJobResponse:
        self.room.asked.append(request)
        return job_pb2.CheckJobResponse(trainable=False, report_json=json.dumps(REPORT))

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Any) -> job_pb2.GetJobResponse:
        return job_pb2.GetJobResponse(job=self.room.find(self.room.jobs, request.job_id, "job_id"))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Any) -> job_pb2.ListJobsResponse:
        newest = [
            one
            for one in reversed(self.room.jobs.values())
            if request.metadata.items() <= one.metadata.items() and not (request.without_metadata and one.metadata)
        ]
        jobs, more = page(newest, lambda one: one.job_id, request)
        return job_pb2.ListJobsResponse(jobs=jobs, has_more=more)

    def _moved(self, job_id: str, status: Any, *allowed: Any) -> job_pb2.Job:
        job: job_pb2.Job = self.room.find(self.room.jobs, job_id, "job_id")
        if job.status in CLOSED or (allowed and job.status not in allowed):
            raise Conflict(f"job_id: {job_id!r} does not allow that now.", param="job_id")
        job.status = status
        return job

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Any) -> job_pb2.CancelJobResponse:
        return job_pb2.CancelJobResponse(job=self._moved(request.job_id, job_pb2.JOB_STATUS_CANCELLED))

    async def PauseJob(self, request: job_pb2.PauseJobRequest, context: Any) -> job_pb2.PauseJobResponse:
        return job_pb2.PauseJobResponse(job=self._moved(request.job_id, job_pb2.JOB_STATUS_PAUSED))

    async def ResumeJob(self, request: job_pb2.ResumeJobRequest, context: Any) -> job_pb2.ResumeJobResponse:
        job = self._moved(request.job_id, job_pb2.JOB_STATUS_RUNNING, job_pb2.JOB_STATUS_PAUSED)
        return job_pb2.ResumeJobResponse(job=job)

    async def ListEvents(self, request: job_pb2.ListEventsRequest, context: Any) -> job_pb2.ListEventsResponse:
        self.room.find(self.room.jobs, request.job_id, "job_id")
        newest = list(reversed(self.room.events.get(request.job_id, [])))
        events, more = page(newest, lambda one: one.event_id, request)
        return job_pb2.ListEventsResponse(events=events, has_more=more)

    async def ListCheckpoints(
        self, request: job_pb2.ListCheckpointsRequest, context: Any
    ) -> job_pb2.ListCheckpointsResponse:
        newest = list(reversed(self.room.checkpoints.get(request.job_id, [])))
        checkpoints, more = page(newest, lambda one: one.checkpoint_id, request, usual=10)
        return job_pb2.ListCheckpointsResponse(checkpoints=checkpoints, has_more=more)


class Graders(grader_pb2_grpc.GraderServiceServicer):
    """Knows the string check alone."""

    async def ValidateGrader(
        self, request: grader_pb2.ValidateGraderRequest, context: Any
    ) -> grader_pb2.ValidateGraderResponse:
        if json.loads(request.grader_json)["type"] == "python":
            raise InvalidInput("grader.type: 'python' is not allowed; no grader runs code.", param="grader.type")
        return grader_pb2.ValidateGraderResponse(grader_json=request.grader_json)

    async def RunGrader(self, request: grader_pb2.RunGraderRequest, context: Any) -> grader_pb2.RunGraderResponse:
        wanted = json.loads(request.item_json).get("answer")
        metadata = {"name": json.loads(request.grader_json)["name"], "type": "string_check", "errors": {}}
        return grader_pb2.RunGraderResponse(
            reward=float(request.model_sample == wanted), sub_rewards={"exact": 0.5}, metadata_json=json.dumps(metadata)
        )


class Datasets(dataset_pb2_grpc.DatasetServiceServicer):
    def __init__(self, room: Room) -> None:
        self.room = room

    async def BuildDataset(
        self, request: dataset_pb2.BuildDatasetRequest, context: Any
    ) -> dataset_pb2.BuildDatasetResponse:
        self.room.asked.append(request)
        made = dataset_pb2.Dataset(
            dataset_id=f"ds_{len(self.room.datasets)}",
            name=request.name,
            created_at=stamp(),
            status=dataset_pb2.DATASET_STATUS_BUILDING,
            spec=request.spec,
        )
        self.room.datasets[made.dataset_id] = made
        return dataset_pb2.BuildDatasetResponse(dataset=made)

    async def GetDataset(self, request: dataset_pb2.GetDatasetRequest, context: Any) -> dataset_pb2.GetDatasetResponse:
        found = self.room.find(self.room.datasets, request.dataset_id, "dataset_id")
        return dataset_pb2.GetDatasetResponse(dataset=found)

    async def ListDatasets(
        self, request: dataset_pb2.ListDatasetsRequest, context: Any
    ) -> dataset_pb2.ListDatasetsResponse:
        newest = list(reversed(self.room.datasets.values()))
        datasets, more = page(newest, lambda one: one.dataset_id, request)
        return dataset_pb2.ListDatasetsResponse(datasets=datasets, has_more=more)

    async def DeleteDataset(
        self, request: dataset_pb2.DeleteDatasetRequest, context: Any
    ) -> dataset_pb2.DeleteDatasetResponse:
        del self.room.datasets[self.room.find(self.room.datasets, request.dataset_id, "dataset_id").dataset_id]
        return dataset_pb2.DeleteDatasetResponse()


class Adapters(adapter_pb2_grpc.AdapterServiceServicer):
    def __init__(self, room: Room) -> None:
        self.room = room

    def _named(self, name: str) -> adapter_pb2.Adapter:
        found: adapter_pb2.Adapter = self.room.find(self.room.adapters, name, "name")
        return found

    async def ListAdapters(
        self, request: adapter_pb2.ListAdaptersRequest, context: Any
    ) -> adapter_pb2.ListAdaptersResponse:
        newest = [
            one
            for one in reversed(self.room.adapters.values())
            if not request.document_id or request.document_id in {source.id for source in one.sources}
        ]
        adapters, more = page(newest, lambda one: one.name, request)
        return adapter_pb2.ListAdaptersResponse(adapters=adapters, has_more=more)

    async def GetAdapter(self, request: adapter_pb2.GetAdapterRequest, context: Any) -> adapter_pb2.GetAdapterResponse:
        return adapter_pb2.GetAdapterResponse(adapter=self._named(request.name))

    async def ImportAdapter(
        self, request: adapter_pb2.ImportAdapterRequest, context: Any
    ) -> adapter_pb2.ImportAdapterResponse:
        made = self.room.adapter(f"ft:base:acme:{request.suffix}:1", principals=list(request.principals))
        return adapter_pb2.ImportAdapterResponse(adapter=made)

    async def BlockAdapter(
        self, request: adapter_pb2.BlockAdapterRequest, context: Any
    ) -> adapter_pb2.BlockAdapterResponse:
        adapter = self._named(request.name)
        adapter.state, adapter.reason = adapter_pb2.ADAPTER_STATE_BLOCKED, request.reason
        return adapter_pb2.BlockAdapterResponse(adapter=adapter)

    async def AcceptAdapter(
        self, request: adapter_pb2.AcceptAdapterRequest, context: Any
    ) -> adapter_pb2.AcceptAdapterResponse:
        adapter = self._named(request.name)
        adapter.state, adapter.reason = adapter_pb2.ADAPTER_STATE_PUBLISHED, request.reason
        return adapter_pb2.AcceptAdapterResponse(adapter=adapter)

    async def DeleteAdapter(
        self, request: adapter_pb2.DeleteAdapterRequest, context: Any
    ) -> adapter_pb2.DeleteAdapterResponse:
        del self.room.adapters[self._named(request.name).name]
        return adapter_pb2.DeleteAdapterResponse()

    async def WithholdSources(
        self, request: adapter_pb2.WithholdSourcesRequest, context: Any
    ) -> adapter_pb2.WithholdSourcesResponse:
        self.room.asked.append(request)
        return adapter_pb2.WithholdSourcesResponse(
            blocked=[
                one.name
                for one in self.room.adapters.values()
                if {source.id for source in one.sources} & set(request.document_ids)
            ]
        )

    async def RetrainAdapter(
        self, request: adapter_pb2.RetrainAdapterRequest, context: Any
    ) -> adapter_pb2.RetrainAdapterResponse:
        self._named(request.name)
        return adapter_pb2.RetrainAdapterResponse(job_ids=["ftjob-a", "ftjob-b"], rows_left_out=4)


class Promotions(promotion_pb2_grpc.PromotionServiceServicer):
    def __init__(self, room: Room) -> None:
        self.room = room

    async def Promote(self, request: promotion_pb2.PromoteRequest, context: Any) -> promotion_pb2.PromoteResponse:
        self.room.asked.append(request)
        step = promotion_pb2.PromotionStep(at=stamp(), state=promotion_pb2.PROMOTION_STATE_GATED, reason="opened")
        made = promotion_pb2.Promotion(
            promotion_id=f"promo_{len(self.room.promotions)}",
            alias=request.alias,
            candidate=request.candidate,
            state=promotion_pb2.PROMOTION_STATE_GATED,
            canary_weight=request.canary_weight,
            created_at=stamp(),
            history=[step],
        )
        self.room.promotions[made.promotion_id] = made
        return promotion_pb2.PromoteResponse(promotion=made)

    async def GetPromotion(
        self, request: promotion_pb2.GetPromotionRequest, context: Any
    ) -> promotion_pb2.GetPromotionResponse:
        found = self.room.find(self.room.promotions, request.promotion_id, "promotion_id")
        return promotion_pb2.GetPromotionResponse(promotion=found)

    async def ListPromotions(
        self, request: promotion_pb2.ListPromotionsRequest, context: Any
    ) -> promotion_pb2.ListPromotionsResponse:
        found = [one for one in reversed(self.room.promotions.values()) if request.alias in {"", one.alias}]
        promotions, more = page(found, lambda one: one.promotion_id, request)
        return promotion_pb2.ListPromotionsResponse(promotions=promotions, has_more=more)

    async def Rollback(self, request: promotion_pb2.RollbackRequest, context: Any) -> promotion_pb2.RollbackResponse:
        open_one = next(one for one in self.room.promotions.values() if one.alias == request.alias)
        open_one.state = promotion_pb2.PROMOTION_STATE_ROLLED_BACK
        open_one.finished_at.CopyFrom(stamp(60))
        open_one.history.add(
            at=stamp(60), state=open_one.state, reason=request.reason, by=f"user:{current_caller().subject}"
        )
        return promotion_pb2.RollbackResponse(promotion=open_one)

    async def ListAliases(
        self, request: promotion_pb2.ListAliasesRequest, context: Any
    ) -> promotion_pb2.ListAliasesResponse:
        aliases = [
            promotion_pb2.Alias(
                alias=one.alias, target="base", canary=one.candidate, canary_weight=0.1, moved_at=stamp()
            )
            for one in self.room.promotions.values()
        ]
        return promotion_pb2.ListAliasesResponse(aliases=aliases)


class Webhooks(webhook_pb2_grpc.WebhookServiceServicer):
    def __init__(self, room: Room) -> None:
        self.room = room

    async def CreateWebhook(
        self, request: webhook_pb2.CreateWebhookRequest, context: Any
    ) -> webhook_pb2.CreateWebhookResponse:
        made = webhook_pb2.Webhook(
            webhook_id=f"wh_{len(self.room.webhooks)}", url=request.url, events=request.events, created_at=stamp()
        )
        self.room.webhooks[made.webhook_id] = made
        return webhook_pb2.CreateWebhookResponse(webhook=made, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    async def ListWebhooks(
        self, request: webhook_pb2.ListWebhooksRequest, context: Any
    ) -> webhook_pb2.ListWebhooksResponse:
        return webhook_pb2.ListWebhooksResponse(webhooks=self.room.webhooks.values())

    async def DeleteWebhook(
        self, request: webhook_pb2.DeleteWebhookRequest, context: Any
    ) -> webhook_pb2.DeleteWebhookResponse:
        del self.room.webhooks[self.room.find(self.room.webhooks, request.webhook_id, "webhook_id").webhook_id]
        return webhook_pb2.DeleteWebhookResponse()


@asynccontextmanager
async def serving(public_key: bytes, room: Room | None = None) -> AsyncIterator[Room]:
    """Serve a room on this machine; its `address` says where."""
    room = room or Room()
    parts: list[tuple[Any, Any, str]] = [
        (job_pb2_grpc.add_JobServiceServicer_to_server, Jobs(room), "Job"),
        (grader_pb2_grpc.add_GraderServiceServicer_to_server, Graders(), "Grader"),
        (dataset_pb2_grpc.add_DatasetServiceServicer_to_server, Datasets(room), "Dataset"),
        (adapter_pb2_grpc.add_AdapterServiceServicer_to_server, Adapters(room), "Adapter"),
        (promotion_pb2_grpc.add_PromotionServiceServicer_to_server, Promotions(room), "Promotion"),
        (webhook_pb2_grpc.add_WebhookServiceServicer_to_server, Webhooks(room), "Webhook"),
    ]
    services = [f"brain.finetuning.v1.{name}Service" for _, _, name in parts]
    server = RpcServer(
        room="finetuning",
        listen="127.0.0.1:0",
        policy={method: ANYONE for service in services for method in methods_of(service)},
        verifier=TokenVerifier([public_key]),
        registry=CollectorRegistry(),
    )
    for (register, servicer, _), service in zip(parts, services, strict=True):
        server.add(register, servicer, service)
    room.address = await server.start()
    try:
        yield room
    finally:
        await server.stop(0)
