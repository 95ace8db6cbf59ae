"""The parts of the room: stores, the rooms that it calls, use cases."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from services.chassis.auth import WorkerMinter
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import JobTable
from services.chassis.lifecycle import Lifecycle
from services.chassis.models.folder import BaseModel
from services.chassis.rpc.client import connect
from services.chassis.rpc.replicas import connect_replicas
from services.chassis.rpc.tls import tls_of
from services.finetuning.backends import grader_embedder, ingestion, retrieval, serving, tables
from services.finetuning.backends.delegation import KeyedDelegation
from services.finetuning.backends.facts import ADAPTER_TOPIC
from services.finetuning.backends.generation import RemoteModels
from services.finetuning.backends.grader_embedder import RemoteEmbedder
from services.finetuning.backends.grader_judge import RemoteJudge
from services.finetuning.backends.ingestion import RemoteDocuments, RemoteFiles
from services.finetuning.backends.judgements import HeardJudgements
from services.finetuning.backends.ledger import SqlLedger
from services.finetuning.backends.prompt_files import read_writing
from services.finetuning.backends.readers import RemoteReaders
from services.finetuning.backends.retrieval import RemotePassages
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.domain.row_reading import RowLimits
from services.finetuning.ports.training import Trainer
from services.finetuning.settings import FinetuningSettings
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.building import BuildDataset
from services.finetuning.usecases.checking import CheckRows
from services.finetuning.usecases.completing import Complete
from services.finetuning.usecases.datasets import Datasets, MakeDataset
from services.finetuning.usecases.facts import FindFacts
from services.finetuning.usecases.grading import GradeAnswer
from services.finetuning.usecases.importing import ImportAdapter
from services.finetuning.usecases.jobs import Jobs
from services.finetuning.usecases.judgements import HearJudgements
from services.finetuning.usecases.preparing import Prepare
from services.finetuning.usecases.promoting import Promotions
from services.finetuning.usecases.publishing import BaseFacts, Publish
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.reading_sets import MakeReadingRows
from services.finetuning.usecases.registry import Registry
from services.finetuning.usecases.retraining import Retrain
from services.finetuning.usecases.settling import AwaitEngine
from services.finetuning.usecases.sources import ReadSources
from services.finetuning.usecases.training import TrainJob
from services.finetuning.usecases.validating import CheckJob, Inspect, ValidateJob
from services.finetuning.usecases.webhooks import Webhooks
from services.finetuning.usecases.withdrawing import Withdraw
from services.finetuning.usecases.written_facts import WriteFacts
from services.layout.texts import read_layout

__all__ = ["Rooms", "Stores", "UseCases", "join_usecases", "open_rooms", "open_stores"]

# Work of the room lasts longer than a request: a build of a large dataset, the upload of an adapter.
_TOKEN_S: Final = 4 * 3600


@dataclass(frozen=True, slots=True)
class Stores:
    """What the room keeps things in."""

    database: Database
    blobs: BlobStore
    log: EventLog
    jobs: JobTable
    webhooks: SqlWebhookStore
    ledger: SqlLedger


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms that this one calls."""

    ingestion: grpc.aio.Channel
    retrieval: grpc.aio.Channel
    generation: grpc.aio.Channel


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything the room can do."""

    jobs: Jobs
    check: CheckJob
    datasets: Datasets
    registry: Registry
    withdraw: Withdraw
    retrain: Retrain
    import_adapter: ImportAdapter
    promotions: Promotions
    grade: GradeAnswer
    webhooks: Webhooks
    hear: HearJudgements
    validate: ValidateJob
    train: TrainJob
    make: MakeDataset


async def open_stores(settings: FinetuningSettings, life: Lifecycle, ring: Callable[[], None]) -> Stores:
    """Open what the room keeps things in; `ring` is called after each transaction that was kept."""
    database = Database(settings.database_url, access=settings)
    life.on_stop(database.close, name="database")
    await migrate(database, "services.finetuning.migrations")
    log = open_event_log(settings.events_url, compacted=[ADAPTER_TOPIC], access=settings)
    life.on_stop(log.close, name="events")
    jobs = JobTable(database, tables.jobs)
    webhooks = SqlWebhookStore(database, tables.webhooks)
    ledger = SqlLedger(database, jobs=jobs, outbox=Outbox(tables.outbox), webhooks=webhooks, on_kept=ring)
    return Stores(database, open_blobs(settings.blobs_url), log, jobs, webhooks, ledger)


def open_rooms(settings: FinetuningSettings, life: Lifecycle) -> Rooms:
    """Connect to the rooms that this one calls."""
    tls = tls_of(settings)
    of_retrieval = (*retrieval.IDEMPOTENT, *grader_embedder.IDEMPOTENT)
    rooms = Rooms(
        ingestion=connect(settings.ingestion_address, idempotent=ingestion.IDEMPOTENT, tls=tls),
        retrieval=connect(settings.retrieval_address, idempotent=of_retrieval, tls=tls),
        generation=connect_replicas(settings.generation_address, idempotent=serving.IDEMPOTENT, tls=tls),
    )
    for name in ("ingestion", "retrieval", "generation"):
        life.on_stop(getattr(rooms, name).close, name=name)
    return rooms


def join_usecases(
    settings: FinetuningSettings,
    *,
    stores: Stores,
    rooms: Rooms,
    base: BaseModel,
    trainer: Trainer,
    webhooks: Webhooks,
    metrics: Metrics,
) -> UseCases:
    """Join everything that the room can do."""
    now, ledger, timeout_s = time.time, stores.ledger, settings.call_timeout_s
    scratch = _scratch(settings)
    files = RemoteFiles(rooms.ingestion, timeout_s=timeout_s, transfer_timeout_s=settings.transfer_timeout_s)
    engine = serving.RemoteServing(rooms.generation, timeout_s=timeout_s)
    delegation = KeyedDelegation(
        WorkerMinter(settings.worker_key_file.read_bytes(), worker="finetuning", lifetime_s=_TOKEN_S)
    )
    archives = Archives(blobs=stores.blobs)
    read_rows = ReadRows(files=files, limits=RowLimits(max_file_bytes=settings.max_training_file_bytes))
    layout = read_layout()
    tokens = FolderTokens(base.folder)
    await_engine = AwaitEngine(serving=engine)
    jobs = Jobs(
        ledger=ledger,
        files=files,
        base_model=base.name,
        audience=settings.default_audience,
        devices=settings.devices,
        metrics=metrics,
        now=now,
    )
    publish = Publish(
        blobs=stores.blobs,
        serving=engine,
        readers=RemoteReaders(rooms.ingestion, timeout_s=timeout_s),
        base=BaseFacts(base.name, base.digest, base.template_hash, settings.model_licence),
        now=now,
    )
    complete = Complete(
        ledger=ledger,
        publish=publish,
        await_engine=await_engine,
        archives=archives,
        files=files,
        scratch=scratch,
        metrics=metrics,
        now=now,
    )
    prepare = Prepare(
        ledger=ledger,
        blobs=stores.blobs,
        archives=archives,
        base=base,
        device=settings.device,
        precision=settings.precision,
    )
    inspect = Inspect(
        ledger=ledger,
        check_rows=CheckRows(read_rows=read_rows, texts=layout),
        tokens=tokens,
        serving=engine,
        prepare=prepare,
        trainer=trainer,
        scratch=scratch,
        price_per_hour=settings.price_per_hour,
        watts=settings.watts,
    )
    promotions = Promotions(
        ledger=ledger,
        base_model=base.name,
        gate=settings.gate,
        canary_weight=settings.canary_weight,
        min_judgements=settings.min_judgements,
        await_engine=await_engine,
        metrics=metrics,
        now=now,
    )
    registry = Registry(
        ledger=ledger,
        blobs=stores.blobs,
        serving=engine,
        promotions=promotions,
        await_engine=await_engine,
        metrics=metrics,
        now=now,
    )
    retrain = Retrain(ledger=ledger, jobs=jobs, files=files, read_rows=read_rows, delegation=delegation, now=now)
    return UseCases(
        jobs=jobs,
        check=CheckJob(ledger=ledger, jobs=jobs, inspect=inspect),
        datasets=Datasets(ledger=ledger, files=files, now=now),
        registry=registry,
        withdraw=Withdraw(
            ledger=ledger, registry=registry, policy=settings.deletion_policy, retrain=retrain.by_itself, now=now
        ),
        retrain=retrain,
        import_adapter=ImportAdapter(
            ledger=ledger,
            files=files,
            publish=publish,
            await_engine=await_engine,
            base_model=base.name,
            max_bytes=settings.max_training_file_bytes,
        ),
        promotions=promotions,
        grade=GradeAnswer(
            judge=RemoteJudge(rooms.generation, timeout_s=settings.generation_timeout_s),
            embedder=RemoteEmbedder(rooms.retrieval, timeout_s=timeout_s),
        ),
        webhooks=webhooks,
        hear=HearJudgements(ledger=ledger),
        validate=ValidateJob(ledger=ledger, inspect=inspect, complete=complete, delegation=delegation, now=now),
        train=TrainJob(
            ledger=ledger,
            trainer=trainer,
            read_rows=read_rows,
            serving=engine,
            prepare=prepare,
            complete=complete,
            archives=archives,
            delegation=delegation,
            scratch=scratch,
            max_deaths=settings.max_deaths,
            keep_checkpoints=settings.keep_checkpoints,
            price_per_hour=settings.price_per_hour,
            metrics=metrics,
            now=now,
        ),
        make=MakeDataset(
            ledger=ledger,
            build=_build_dataset(settings, stores=stores, rooms=rooms, files=files, read_rows=read_rows, tokens=tokens),
            files=files,
            delegation=delegation,
            metrics=metrics,
        ),
    )


def _build_dataset(
    settings: FinetuningSettings,
    *,
    stores: Stores,
    rooms: Rooms,
    files: RemoteFiles,
    read_rows: ReadRows,
    tokens: FolderTokens,
) -> BuildDataset:
    """Return what makes the rows of datasets."""
    timeout_s, layout = settings.call_timeout_s, read_layout()
    documents = RemoteDocuments(rooms.ingestion, timeout_s=timeout_s)
    passages = RemotePassages(rooms.retrieval, timeout_s=timeout_s)
    writer = RemoteModels(
        rooms.generation,
        call_timeout_s=timeout_s,
        first_token_timeout_s=settings.generation_timeout_s,
        stall_timeout_s=settings.generation_timeout_s,
    )
    return BuildDataset(
        documents=documents,
        judgements=HeardJudgements(ledger=stores.ledger, blobs=stores.blobs),
        files=files,
        read_rows=read_rows,
        read_sources=ReadSources(documents=documents),
        find_facts=FindFacts(
            read_rows=read_rows,
            write_facts=WriteFacts(writer=writer, passages=passages, writing=read_writing(), layout=layout),
        ),
        make_reading_rows=MakeReadingRows(
            passages=passages,
            tokens=tokens,
            layout=layout,
            served_passages=settings.served_passages,
            window=settings.served_window,
        ),
        layout=layout,
    )


def _scratch(settings: FinetuningSettings) -> Path:
    """Return the folder for what trainers read and write; what a killed worker left goes with its next start."""
    folder = settings.state_dir / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
