"""The room as it serves and indexes, until a signal."""

import asyncio
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.retrieval.v1 import embedding_pb2_grpc, rerank_pb2_grpc, search_pb2_grpc, withhold_pb2_grpc
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import BrainError, Unavailable
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.events.outbox import OutboxRelay
from services.chassis.lifecycle import Lifecycle
from services.chassis.rpc.server import RpcServer
from services.retrieval.api import Defaults, EmbeddingServicer, RerankServicer, SearchServicer, WithholdServicer
from services.retrieval.backends.chunk_blobs import ChunkBlobs
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.bootstrap.models import MAXSIM, open_models
from services.retrieval.bootstrap.shelves import open_shelf
from services.retrieval.consumer import DOCUMENT_TOPIC, GROUP, DocumentEvents
from services.retrieval.domain import Analyser, Fusion
from services.retrieval.policy import DELEGATES, POLICY
from services.retrieval.settings import RetrievalSettings
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import (
    ChangeAccess,
    ChangeAttributes,
    EmbedTexts,
    ExplainDocument,
    IndexVersions,
    LiveIndexes,
    RankTexts,
    RemoveDocument,
    ResolveSpans,
    RestrictDocument,
    Search,
    WithholdDocument,
)

__all__ = ["ROLES", "serve"]

ROLES: Final = ("all", "serve", "index")
# How often the index is asked whether it wants to fold in what was written.
_MAINTAIN_S: Final = 2.0
# Between two tries to reach an index that is away at the start.
_INDEX_PAUSE_S: Final = 1.0

_log = structlog.get_logger()


async def serve(settings: RetrievalSettings, *, role: str, registry: CollectorRegistry = REGISTRY) -> None:
    """Run the room until a signal: `serve` answers calls, `index` hears events, `all` does both."""
    lifecycle = Lifecycle("retrieval")
    metrics = Metrics(registry)
    database = Database(settings.database_url, access=settings)
    lifecycle.on_stop(database.close, name="database")
    await migrate(database, "services.retrieval.migrations")
    log = open_event_log(settings.events_url, access=settings)
    lifecycle.on_stop(log.close, name="events")
    relay = OutboxRelay(database=database, table=outbox, log=log, oldest_pending=metrics.outbox_oldest)
    register = SqlRegister(database, relay=relay)
    blobs = open_blobs(settings.blobs_url)
    models = await open_models(settings, lifecycle)
    table = SqlIndexTable(database)
    indexes = LiveIndexes(
        table=table, shelf=open_shelf(settings), embedders=models.embedders, first_model=models.packaged
    )
    lifecycle.on_stop(indexes.close, name="indexes")
    await _started(indexes)
    lifecycle.spawn(indexes.follow(), name="live_index")
    analyser = Analyser()

    server = RpcServer.of(settings, room="retrieval", policy=POLICY, registry=registry, delegates=DELEGATES)
    if role != "index":
        search = Search(
            indexes=indexes,
            register=register,
            analyser=analyser,
            rerankers=models.rerankers,
            metrics=metrics,
            candidates=settings.candidates,
            rerank_candidates=settings.rerank_candidates,
        )
        explain = ExplainDocument(search=search, indexes=indexes, register=register, analyser=analyser)
        searching = SearchServicer(
            search=search,
            explain=explain,
            resolve=ResolveSpans(register=register, texts=blobs),
            defaults=Defaults(settings.alpha, Fusion(settings.fusion), settings.ranker),
        )
        embedding = EmbeddingServicer(embed=EmbedTexts(indexes=indexes, metrics=metrics))
        # A caller that asks for an order gets one: the room's default when it is a reranker, else the embedded one.
        default = settings.ranker if settings.ranker in models.rerankers else MAXSIM
        reranking = RerankServicer(rank=RankTexts(rerankers=models.rerankers, default=default))
        withholding = WithholdServicer(
            withhold=WithholdDocument(register=register, indexes=indexes),
            restrict=RestrictDocument(register=register),
        )
        server.add(search_pb2_grpc.add_SearchServiceServicer_to_server, searching, "brain.retrieval.v1.SearchService")
        server.add(
            embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server, embedding, "brain.retrieval.v1.EmbeddingService"
        )
        server.add(rerank_pb2_grpc.add_RerankServiceServicer_to_server, reranking, "brain.retrieval.v1.RerankService")
        server.add(
            withhold_pb2_grpc.add_WithholdServiceServicer_to_server, withholding, "brain.retrieval.v1.WithholdService"
        )
    if role != "serve":
        events = DocumentEvents(
            blobs=blobs,
            chunks=ChunkBlobs(blobs),
            index_versions=IndexVersions(
                indexes=indexes,
                register=register,
                analyser=analyser,
                metrics=metrics,
                batch_chunks=settings.index_batch_chunks,
            ),
            remove=RemoveDocument(indexes=indexes, table=table, register=register),
            change_access=ChangeAccess(indexes=indexes, register=register),
            change_attributes=ChangeAttributes(indexes=indexes, register=register),
            register=register,
        )
        _spawn_indexer(settings, lifecycle, log=log, events=events, metrics=metrics, indexes=indexes)
        lifecycle.spawn(relay.run(), name="outbox")
    address = await server.serve(lifecycle, drain_s=settings.drain_s)
    _log.info("room_ready", room="retrieval", address=address, role=role)
    await lifecycle.run_until_signal()


async def _started(indexes: LiveIndexes) -> None:
    while True:
        try:
            await indexes.start()
        except Unavailable as error:
            # Not the end of the process: whoever starts it again would wait longer each time, up to minutes.
            _log.warning("index_waited_for", reason=error.message, private=error.private)
            await asyncio.sleep(_INDEX_PAUSE_S)
        else:
            return


def _spawn_indexer(
    settings: RetrievalSettings,
    lifecycle: Lifecycle,
    *,
    log: EventLog,
    events: DocumentEvents,
    metrics: Metrics,
    indexes: LiveIndexes,
) -> None:
    consumer = EventConsumer(
        log,
        topic=DOCUMENT_TOPIC,
        group=GROUP,
        handle=events.handle,
        on_dead=events.on_dead,
        handle_batch=events.handle_batch,
        batch=settings.index_batch_events,
        dead_letters=metrics.dead_letters,
        lag=metrics.lag,
    )
    lifecycle.spawn(_maintain(indexes), name="index_maintenance")
    lifecycle.spawn(consumer.run(), name="indexer")


async def _maintain(indexes: LiveIndexes) -> None:
    while True:
        await asyncio.sleep(_MAINTAIN_S)
        try:
            await (await indexes.live()).index.maintain()
        except BrainError as error:
            _log.warning("index_maintenance_waits", reason=error.message, private=error.private)
