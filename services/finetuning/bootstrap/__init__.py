"""Makes the room's choices and joins its parts."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.finetuning.v1 import (
    adapter_pb2_grpc,
    dataset_pb2_grpc,
    grader_pb2_grpc,
    job_pb2_grpc,
    promotion_pb2_grpc,
    webhook_pb2_grpc,
)
from services.chassis.errors import Unavailable
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import EventLog
from services.chassis.events.outbox import OutboxRelay
from services.chassis.jobs.bell import hang_bell
from services.chassis.jobs.embedded import EmbeddedWorker
from services.chassis.lifecycle import Lifecycle
from services.chassis.models.folder import open_model
from services.chassis.moving.part import RoomPart
from services.chassis.rpc.server import RpcServer
from services.finetuning import consumer, tasks
from services.finetuning.api.adapters import AdapterServicer
from services.finetuning.api.datasets import DatasetServicer
from services.finetuning.api.graders import GraderServicer
from services.finetuning.api.jobs import JobServicer
from services.finetuning.api.promotions import PromotionServicer
from services.finetuning.api.webhooks import WebhookServicer
from services.finetuning.backends import tables
from services.finetuning.backends.ledger import SqlLedger
from services.finetuning.backends.moving import settle
from services.finetuning.backends.trainer_process import TrainerProcess
from services.finetuning.backends.webhook_sender import HttpWebhookSender
from services.finetuning.bootstrap.parts import Stores, UseCases, join_usecases, open_rooms, open_stores
from services.finetuning.consumer import Events
from services.finetuning.domain.jobs import JobStatus
from services.finetuning.domain.reach import reach_of
from services.finetuning.policy import POLICY
from services.finetuning.ports.training import Trainer
from services.finetuning.settings import FinetuningSettings
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.webhooks import DeliverWebhooks, Webhooks

__all__ = ["ROLES", "Role", "join", "moving", "serve"]

_log = structlog.get_logger()


# Attempts of training: trainers that die are started again within one; these are lost workers and rooms that are away.
_TRAIN_ATTEMPTS: Final = 100
_LIGHT_ATTEMPTS: Final = 8
# Validations and builds that run at once.
_LIGHT_AT_ONCE: Final = 2


class Role(StrEnum):
    """What a process of this room does."""

    ALL = "all"
    SERVE = "serve"
    WORK = "work"


ROLES: Final = tuple(Role)


async def serve(settings: FinetuningSettings, role: str) -> None:
    """Run the room until a signal comes."""
    life = Lifecycle("finetuning")
    await join(settings, Role(role), life=life, registry=REGISTRY)
    await life.run_until_signal()


def moving(settings: FinetuningSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    return RoomPart(
        room="finetuning",
        database_url=settings.database_url,
        access=settings,
        migrations="services.finetuning.migrations",
        settle=settle,
    )


async def join(
    settings: FinetuningSettings,
    role: Role,
    *,
    life: Lifecycle,
    registry: CollectorRegistry,
    trainer: Trainer | None = None,
) -> str:
    """Join the parts and start what `role` says; return the address that callers are served at (empty for a worker).

    Args:
        settings: The room's settings.
        role: What this process does.
        life: Takes everything down again.
        registry: Where metrics are kept.
        trainer: Trains; None for child processes.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    metrics = Metrics(registry)
    bells: list[Callable[[], None]] = []
    hang_bell(
        settings.jobs_url, settings=settings, room="finetuning", works=role is not Role.SERVE, bells=bells, life=life
    )

    def ring() -> None:
        for bell in bells:
            bell()

    stores = await open_stores(settings, life, ring)
    rooms = open_rooms(settings, life)
    base = await open_model(settings.model, cache=settings.cache_dir, served_name=settings.served_name)
    sender = HttpWebhookSender(reach_of(settings.webhook_networks, http_loopback=settings.webhook_http_loopback))
    secret = settings.webhook_secret_file.read_bytes()
    usecases = join_usecases(
        settings,
        stores=stores,
        rooms=rooms,
        base=base,
        trainer=trainer or TrainerProcess(environment=os.environ, threads=settings.trainer_threads),
        webhooks=Webhooks(store=stores.webhooks, sender=sender, secret=secret),
        metrics=metrics,
    )
    if role is not Role.SERVE:
        relay = OutboxRelay(
            database=stores.database, table=tables.outbox, log=stores.log, oldest_pending=metrics.oldest_pending
        )
        deliver = DeliverWebhooks(
            store=stores.webhooks,
            sender=sender,
            secret=secret,
            count=lambda state: metrics.webhooks.labels(outcome=state.value).inc(),
        )
        workers = _workers(settings, stores, usecases)
        bells += [relay.wake, deliver.wake, *(worker.wake for worker in workers)]
        life.spawn(relay.run(), name="outbox")
        life.spawn(deliver.run(), name="webhooks")
        for number, worker in enumerate(workers):
            life.spawn(worker.run(), name=f"jobs-{number}")
        for reader in _consumers(stores.log, usecases, metrics):
            life.spawn(reader.run(), name="events")
        life.spawn(_watch_jobs(stores.ledger, metrics), name="states")
    address = "" if role is Role.WORK else await _listen(settings, life, usecases, registry)
    _log.info("room_ready", room="finetuning", role=role.value, address=address, model=base.name)
    return address


def _workers(settings: FinetuningSettings, stores: Stores, usecases: UseCases) -> list[EmbeddedWorker]:
    """Return what does the work: one worker a device for training, another for the rest."""
    on_failed = tasks.failing(usecases.validate, usecases.make, usecases.train)
    return [
        EmbeddedWorker(
            table=stores.jobs,
            database=stores.database,
            handlers=tasks.light(usecases.validate, usecases.make),
            on_failed=on_failed,
            concurrency=_LIGHT_AT_ONCE,
            lease_s=settings.job_lease_s,
            max_attempts=_LIGHT_ATTEMPTS,
        ),
        EmbeddedWorker(
            table=stores.jobs,
            database=stores.database,
            handlers=tasks.training(usecases.train),
            on_failed=on_failed,
            concurrency=settings.devices,
            lease_s=settings.job_lease_s,
            max_attempts=_TRAIN_ATTEMPTS,
        ),
    ]


def _consumers(log: EventLog, usecases: UseCases, metrics: Metrics) -> list[EventConsumer]:
    events = Events(withdraw=usecases.withdraw, hear=usecases.hear, promotions=usecases.promotions)
    handlers = {
        consumer.DOCUMENT_TOPIC: events.document,
        consumer.FEEDBACK_TOPIC: events.feedback,
        consumer.ANSWER_TOPIC: events.answer,
        consumer.VERDICT_TOPIC: events.verdict,
    }
    return [
        EventConsumer(
            log,
            topic=topic,
            group=consumer.GROUP,
            handle=handle,
            on_dead=events.on_dead,
            dead_letters=metrics.dead_letters,
            lag=metrics.lag.labels(topic=topic),
        )
        for topic, handle in handlers.items()
    ]


async def _listen(
    settings: FinetuningSettings, life: Lifecycle, usecases: UseCases, registry: CollectorRegistry
) -> str:
    """Serve callers; return the address."""
    server = RpcServer.of(settings, room="finetuning", policy=POLICY, registry=registry)
    server.add(
        job_pb2_grpc.add_JobServiceServicer_to_server,
        JobServicer(jobs=usecases.jobs, check=usecases.check),
        "brain.finetuning.v1.JobService",
    )
    server.add(
        dataset_pb2_grpc.add_DatasetServiceServicer_to_server,
        DatasetServicer(usecases.datasets),
        "brain.finetuning.v1.DatasetService",
    )
    server.add(
        adapter_pb2_grpc.add_AdapterServiceServicer_to_server,
        AdapterServicer(
            registry=usecases.registry,
            withdraw=usecases.withdraw,
            retrain=usecases.retrain,
            import_adapter=usecases.import_adapter,
        ),
        "brain.finetuning.v1.AdapterService",
    )
    server.add(
        promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
        PromotionServicer(usecases.promotions),
        "brain.finetuning.v1.PromotionService",
    )
    server.add(
        grader_pb2_grpc.add_GraderServiceServicer_to_server,
        GraderServicer(usecases.grade),
        "brain.finetuning.v1.GraderService",
    )
    server.add(
        webhook_pb2_grpc.add_WebhookServiceServicer_to_server,
        WebhookServicer(usecases.webhooks),
        "brain.finetuning.v1.WebhookService",
    )
    return await server.serve(life, drain_s=settings.drain_s)


async def _watch_jobs(ledger: SqlLedger, metrics: Metrics) -> None:
    while True:
        with suppress(Unavailable):
            counts = await ledger.jobs_by_status()
            for status in JobStatus:
                metrics.jobs.labels(state=status.value).set(counts.get(status.value, 0))
        # As often as metrics are commonly read.
        await asyncio.sleep(5)
