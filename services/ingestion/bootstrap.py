"""Makes the room's choices and joins its parts."""

import asyncio
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import grpc
import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.ingestion.v1 import batch_pb2_grpc, collection_pb2_grpc, document_pb2_grpc, file_pb2_grpc
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import Unavailable
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.events.outbox import Outbox, OutboxRelay
from services.chassis.jobs.bell import hang_bell
from services.chassis.jobs.embedded import EmbeddedWorker
from services.chassis.jobs.table import JobTable
from services.chassis.lifecycle import Lifecycle
from services.chassis.moving.part import RoomPart
from services.chassis.rpc.client import connect
from services.chassis.rpc.server import RpcServer
from services.chassis.rpc.tls import tls_of
from services.ingestion import tasks
from services.ingestion.api.batches import FileBatchServicer
from services.ingestion.api.collections import CollectionServicer
from services.ingestion.api.documents import DocumentServicer
from services.ingestion.api.files import FileServicer
from services.ingestion.backends import tables
from services.ingestion.backends.database import SqlLedger
from services.ingestion.backends.facts import ProtobufChunks
from services.ingestion.backends.media_types import detect
from services.ingestion.backends.moving import Settle
from services.ingestion.backends.retrieval import IDEMPOTENT, RetrievalIndex
from services.ingestion.backends.sandbox import SandboxedReader
from services.ingestion.consumer import GROUP, INDEX_TOPIC, IndexEvents
from services.ingestion.domain.limits import Limits
from services.ingestion.policy import DELEGATES, POLICY
from services.ingestion.ports import DocumentReader
from services.ingestion.settings import IngestionSettings
from services.ingestion.telemetry import Metrics
from services.ingestion.usecases.access import SetAccess
from services.ingestion.usecases.adding import Adding
from services.ingestion.usecases.collections import Collections
from services.ingestion.usecases.deleting import Deleting
from services.ingestion.usecases.documents import Documents
from services.ingestion.usecases.files import Files
from services.ingestion.usecases.indexing import NoteIndex
from services.ingestion.usecases.parsing import ReadVersion
from services.ingestion.usecases.receiving import Intake
from services.ingestion.usecases.sweeping import Sweep

__all__ = ["ROLES", "Role", "join", "moving", "serve"]

_log = structlog.get_logger()

# No document is read for longer than this: its child process has a time limit far below.
_SCRATCH_AGE_S: Final = 3_600


class Role(StrEnum):
    """What a process of this room does."""

    ALL = "all"
    SERVE = "serve"
    WORK = "work"


ROLES: Final = tuple(Role)


@dataclass(frozen=True, slots=True)
class _Stores:
    """What the room keeps things in."""

    database: Database
    blobs: BlobStore
    log: EventLog
    jobs: JobTable


@dataclass(frozen=True, slots=True)
class _UseCases:
    """Everything the room can do."""

    adding: Adding
    collections: Collections
    deleting: Deleting
    documents: Documents
    files: Files
    note: NoteIndex
    set_access: SetAccess
    sweep: Sweep


async def serve(settings: IngestionSettings, role: str) -> None:
    """Run the room until a signal comes."""
    life = Lifecycle("ingestion")
    await join(settings, Role(role), life=life, registry=REGISTRY)
    await life.run_until_signal()


def moving(settings: IngestionSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    return RoomPart(
        room="ingestion",
        database_url=settings.database_url,
        access=settings,
        migrations="services.ingestion.migrations",
        settle=Settle(open_blobs(settings.blobs_url)),
    )


async def join(
    settings: IngestionSettings,
    role: Role,
    *,
    life: Lifecycle,
    registry: CollectorRegistry,
    reader: DocumentReader | None = None,
) -> str:
    """Join the parts and start what `role` says; return the address that callers are served at (empty for a worker).

    Args:
        settings: The room's settings.
        role: What this process does.
        life: Takes everything down again.
        registry: Where metrics are kept.
        reader: Reads documents; None for the one that the settings choose.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    metrics = Metrics(registry)
    stores = await _stores(settings, life)
    channel = connect(settings.retrieval_address, idempotent=IDEMPOTENT, tls=tls_of(settings))
    life.on_stop(channel.close, name="retrieval")
    relay = OutboxRelay(
        database=stores.database, table=tables.outbox, log=stores.log, oldest_pending=metrics.oldest_pending
    )
    bells = [relay.wake]
    hang_bell(
        settings.jobs_url, settings=settings, room="ingestion", works=role is not Role.SERVE, bells=bells, life=life
    )

    def ring() -> None:
        for bell in bells:
            bell()

    ledger = SqlLedger(stores.database, jobs=stores.jobs, outbox=Outbox(tables.outbox), on_kept=ring)
    usecases = _usecases(settings, stores=stores, ledger=ledger, channel=channel, metrics=metrics)
    if role is not Role.SERVE:
        sandbox: SandboxedReader | None = None
        if reader is None:
            reader = sandbox = _sandbox(settings, life)
        read = ReadVersion(
            ledger=ledger,
            blobs=stores.blobs,
            reader=reader,
            form=ProtobufChunks(),
            metrics=metrics,
            scratch=_scratch(settings),
            now=time.time,
        )
        worker = EmbeddedWorker(
            table=stores.jobs,
            database=stores.database,
            handlers=tasks.handlers(read),
            on_failed=read.fail,
            concurrency=settings.parse_concurrency,
            lease_s=settings.job_lease_s,
            max_attempts=settings.job_attempts,
        )
        bells.append(worker.wake)
        await usecases.sweep.leftovers()
        life.spawn(relay.run(), name="outbox")
        life.spawn(_consumer(stores.log, usecases, metrics).run(), name="index-events")
        life.spawn(_work(worker, sandbox, _scratch(settings)), name="parse-jobs")
        life.spawn(_sweep(usecases.sweep, settings.sweep_interval_s), name="sweep")
        life.spawn(_watch_queue(stores.jobs, metrics), name="queue")
    address = "" if role is Role.WORK else await _listen(settings, life, usecases, registry)
    _log.info("room_ready", room="ingestion", role=role.value, address=address)
    return address


async def _stores(settings: IngestionSettings, life: Lifecycle) -> _Stores:
    database = Database(settings.database_url, access=settings)
    life.on_stop(database.close, name="database")
    await migrate(database, "services.ingestion.migrations")
    log = open_event_log(settings.events_url, access=settings)
    life.on_stop(log.close, name="events")
    return _Stores(
        database=database,
        blobs=open_blobs(settings.blobs_url),
        log=log,
        jobs=JobTable(database, tables.jobs),
    )


def _usecases(
    settings: IngestionSettings, *, stores: _Stores, ledger: SqlLedger, channel: grpc.aio.Channel, metrics: Metrics
) -> _UseCases:
    blobs, now = stores.blobs, time.time
    index = RetrievalIndex(channel, timeout_s=settings.retrieval_timeout_s)
    intake = Intake(blobs=blobs, detect_type=detect)
    deleting = Deleting(ledger=ledger, blobs=blobs, index=index, metrics=metrics, now=now)
    set_access = SetAccess(ledger=ledger, index=index, now=now)
    files = Files(
        ledger=ledger, blobs=blobs, intake=intake, deleting=deleting, max_bytes=settings.max_file_bytes, now=now
    )
    collections = Collections(ledger=ledger, deleting=deleting, now=now)
    return _UseCases(
        adding=Adding(
            ledger=ledger,
            blobs=blobs,
            intake=intake,
            set_access=set_access,
            metrics=metrics,
            max_bytes=settings.max_document_bytes,
            now=now,
        ),
        collections=collections,
        deleting=deleting,
        documents=Documents(ledger=ledger, blobs=blobs, metrics=metrics, now=now),
        files=files,
        note=NoteIndex(ledger=ledger, metrics=metrics, now=now),
        set_access=set_access,
        sweep=Sweep(ledger=ledger, blobs=blobs, files=files, collections=collections, now=now),
    )


async def _listen(
    settings: IngestionSettings, life: Lifecycle, usecases: _UseCases, registry: CollectorRegistry
) -> str:
    """Serve callers; return the address."""
    server = RpcServer.of(settings, room="ingestion", policy=POLICY, registry=registry, delegates=DELEGATES)
    server.add(
        collection_pb2_grpc.add_CollectionServiceServicer_to_server,
        CollectionServicer(usecases.collections),
        "brain.ingestion.v1.CollectionService",
    )
    server.add(
        document_pb2_grpc.add_DocumentServiceServicer_to_server,
        DocumentServicer(
            adding=usecases.adding,
            documents=usecases.documents,
            set_access=usecases.set_access,
            deleting=usecases.deleting,
        ),
        "brain.ingestion.v1.DocumentService",
    )
    server.add(
        file_pb2_grpc.add_FileServiceServicer_to_server,
        FileServicer(usecases.files),
        "brain.ingestion.v1.FileService",
    )
    server.add(
        batch_pb2_grpc.add_FileBatchServiceServicer_to_server,
        FileBatchServicer(adding=usecases.adding, documents=usecases.documents),
        "brain.ingestion.v1.FileBatchService",
    )
    return await server.serve(life, drain_s=settings.drain_s)


def _sandbox(settings: IngestionSettings, life: Lifecycle) -> SandboxedReader:
    """Return the reader whose every reading happens in a child process."""
    reader = SandboxedReader(
        limits=Limits(max_bytes=settings.max_document_bytes),
        concurrency=settings.parse_concurrency,
        require_seccomp=settings.require_seccomp,
    )
    life.on_stop(reader.close, name="reader")
    return reader


async def _work(worker: EmbeddedWorker, sandbox: SandboxedReader | None, scratch: Path) -> None:
    """Read documents; loading the parsers takes seconds, in which callers are served already."""
    if sandbox is not None:
        await sandbox.start(scratch)
    await worker.run()


def _consumer(log: EventLog, usecases: _UseCases, metrics: Metrics) -> EventConsumer:
    events = IndexEvents(note=usecases.note, deleting=usecases.deleting)
    return EventConsumer(
        log,
        topic=INDEX_TOPIC,
        group=GROUP,
        handle=events.handle,
        on_dead=events.on_dead,
        dead_letters=metrics.dead_letters,
        lag=metrics.lag,
    )


async def _sweep(sweep: Sweep, interval_s: float) -> None:
    while True:
        with suppress(Unavailable):
            await sweep.expired()
        await asyncio.sleep(interval_s)


async def _watch_queue(jobs: JobTable, metrics: Metrics) -> None:
    while True:
        with suppress(Unavailable):
            metrics.queued.set(await jobs.depth())
        # As often as metrics are commonly read.
        await asyncio.sleep(5)


def _scratch(settings: IngestionSettings) -> Path:
    """Return the folder for copies that are being read, without what a crash left there."""
    folder = settings.state_dir / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("read-*"):
        if time.time() - left.stat().st_mtime > _SCRATCH_AGE_S:
            shutil.rmtree(left, ignore_errors=True)
    return folder
