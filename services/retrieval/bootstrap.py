"""Where the room's choices are made and its parts are joined."""

import asyncio
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.retrieval.v1 import embedding_pb2_grpc, rerank_pb2_grpc, search_pb2_grpc, withhold_pb2_grpc
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import BrainError, InvalidInput
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.events.outbox import OutboxRelay
from services.chassis.lifecycle import Lifecycle
from services.chassis.moving.part import RoomPart
from services.chassis.rpc.server import RpcServer
from services.retrieval.api import Defaults, EmbeddingServicer, RerankServicer, SearchServicer, WithholdServicer
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.consumer import DOCUMENT_TOPIC, GROUP, DocumentEvents
from services.retrieval.domain import Analyser, Fusion
from services.retrieval.policy import DELEGATES, POLICY
from services.retrieval.ports import Embedder, Index, Reranker
from services.retrieval.settings import RetrievalSettings
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import (
    ChangeAccess,
    ChangeAttributes,
    EmbedTexts,
    ExplainDocument,
    IndexVersions,
    RankTexts,
    RemoveDocument,
    ResolveSpans,
    RestrictDocument,
    Search,
    WithholdDocument,
)

__all__ = ["ROLES", "moving", "serve"]

ROLES: Final = ("all", "serve", "index")
# How often the index is asked whether it wants to fold in what was written.
_MAINTAIN_S: Final = 2.0
_MAXSIM: Final = "minilm-maxsim"

_log = structlog.get_logger()


async def serve(settings: RetrievalSettings, *, role: str, registry: CollectorRegistry = REGISTRY) -> None:
    """Run the room until a signal: `serve` answers calls, `index` hears events, `all` does both."""
    lifecycle = Lifecycle("retrieval")
    metrics = Metrics(registry)
    database = Database(settings.database_url)
    lifecycle.on_stop(database.close, name="database")
    await migrate(database, "services.retrieval.migrations")
    log = open_event_log(settings.events_url, access=settings)
    lifecycle.on_stop(log.close, name="events")
    relay = OutboxRelay(database=database, table=outbox, log=log, oldest_pending=metrics.outbox_oldest)
    register = SqlRegister(database, relay=relay)
    blobs = open_blobs(settings.blobs_url)
    embedder, rerankers = await _open_models(settings, lifecycle)
    index = await _open_index(settings, lifecycle, dimension=embedder.dimension)
    analyser = Analyser()

    server = RpcServer.of(settings, room="retrieval", policy=POLICY, registry=registry, delegates=DELEGATES)
    if role != "index":
        search = Search(
            index=index,
            embedder=embedder,
            register=register,
            analyser=analyser,
            rerankers=rerankers,
            metrics=metrics,
            candidates=settings.candidates,
            rerank_candidates=settings.rerank_candidates,
        )
        explain = ExplainDocument(search=search, index=index, embedder=embedder, register=register, analyser=analyser)
        searching = SearchServicer(
            search=search,
            explain=explain,
            resolve=ResolveSpans(register=register, texts=blobs),
            defaults=Defaults(settings.alpha, Fusion(settings.fusion), settings.ranker),
        )
        embedding = EmbeddingServicer(embed=EmbedTexts(embedder=embedder, metrics=metrics))
        # A caller that asks for an order gets one: the room's default when it is a reranker, else the embedded one.
        default = settings.ranker if settings.ranker in rerankers else _MAXSIM
        reranking = RerankServicer(rank=RankTexts(rerankers=rerankers, default=default))
        withholding = WithholdServicer(
            withhold=WithholdDocument(register=register, index=index),
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
            index_versions=IndexVersions(
                index=index,
                embedder=embedder,
                register=register,
                analyser=analyser,
                metrics=metrics,
                batch_chunks=settings.index_batch_chunks,
            ),
            remove=RemoveDocument(index=index, register=register),
            change_access=ChangeAccess(index=index, register=register),
            change_attributes=ChangeAttributes(index=index, register=register),
            register=register,
        )
        _spawn_indexer(settings, lifecycle, log=log, events=events, metrics=metrics, index=index)
        lifecycle.spawn(relay.run(), name="outbox")
    address = await server.serve(lifecycle, drain_s=settings.drain_s)
    _log.info("room_ready", room="retrieval", address=address, role=role)
    await lifecycle.run_until_signal()


def moving(settings: RetrievalSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    from services.retrieval.backends.moving import IndexBaggage, settle  # noqa: PLC0415  not while the room runs

    async def baggage() -> IndexBaggage:
        life = Lifecycle("retrieval")
        digest, dimension = _embedder_digest(settings)
        index = await _open_index(settings, life, dimension=dimension)
        return IndexBaggage(
            Database(settings.database_url), index, embedder=digest, dimension=dimension, closing=life.stop
        )

    return RoomPart(
        room="retrieval",
        database_url=settings.database_url,
        migrations="services.retrieval.migrations",
        settle=settle,
        baggage=baggage,
    )


def _embedder_digest(settings: RetrievalSettings) -> tuple[str, int]:
    """Return what the chosen embedder's vectors depend on, and their dimension; nothing is started."""
    scheme = settings.embedder_url.partition("://")[0]
    if scheme != "minilm":
        raise InvalidInput(f"embedder_url: {scheme!r} is not offered; use minilm://.")
    from services.retrieval.backends.onnx_worker import DIMENSION, model_digest  # noqa: PLC0415  only what is chosen

    return model_digest(), DIMENSION


def _spawn_indexer(
    settings: RetrievalSettings,
    lifecycle: Lifecycle,
    *,
    log: EventLog,
    events: DocumentEvents,
    metrics: Metrics,
    index: Index,
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
    lifecycle.spawn(_maintain(index), name="index_maintenance")
    lifecycle.spawn(consumer.run(), name="indexer")


async def _maintain(index: Index) -> None:
    while True:
        await asyncio.sleep(_MAINTAIN_S)
        try:
            await index.maintain()
        except BrainError as error:
            _log.warning("index_maintenance_waits", reason=error.message, private=error.private)


async def _open_models(settings: RetrievalSettings, lifecycle: Lifecycle) -> tuple[Embedder, dict[str, Reranker]]:
    scheme = settings.embedder_url.partition("://")[0]
    match scheme:
        case "minilm":
            from services.retrieval.backends.maxsim_reranker import (  # noqa: PLC0415  only what is chosen
                MaxSimReranker,
                WeakestMaxSimReranker,
            )
            from services.retrieval.backends.onnx_embedder import OnnxEmbedder  # noqa: PLC0415  the same
            from services.retrieval.backends.onnx_worker import OnnxWorker  # noqa: PLC0415  the same

            worker = OnnxWorker(max_waiting=settings.max_waiting_texts)
            await worker.start()
            lifecycle.on_stop(worker.stop, name="embedder")
            rerankers: dict[str, Reranker] = {
                one.name: one for one in (MaxSimReranker(worker), WeakestMaxSimReranker(worker))
            }
        case _:
            raise InvalidInput(f"embedder_url: {scheme!r} is not offered; use minilm://.")
    if settings.reranker_url:
        from services.retrieval.backends.http_reranker import HttpReranker  # noqa: PLC0415  only what is chosen

        key = settings.reranker_key_file.read_text().strip() if settings.reranker_key_file else ""
        remote = HttpReranker(settings.reranker_url, model=settings.reranker_model, key=key)
        lifecycle.on_stop(remote.close, name="reranker")
        rerankers[remote.name] = remote
    if settings.ranker != "none" and settings.ranker not in rerankers:
        raise InvalidInput(f"ranker: {settings.ranker!r} is not one of none, {', '.join(sorted(rerankers))}.")
    return OnnxEmbedder(worker), rerankers


async def _open_index(settings: RetrievalSettings, lifecycle: Lifecycle, *, dimension: int) -> Index:
    scheme, _, rest = settings.index_url.partition("://")
    match scheme:
        case "lancedb":
            from services.retrieval.backends.lancedb import LanceIndex  # noqa: PLC0415  only what is chosen

            embedded = LanceIndex(rest, dimension=dimension, ann_rows=settings.ann_rows)
            await embedded.open()
            lifecycle.on_stop(embedded.close, name="index")
            return embedded
        case "weaviate" | "weaviates":
            from services.retrieval.backends.weaviate import WeaviateIndex  # noqa: PLC0415  only what is chosen
            from services.retrieval.backends.weaviate_server import WeaviateServer  # noqa: PLC0415  the same

            server = WeaviateServer.of_url(
                settings.index_url,
                key=settings.index_key_file.read_text().strip() if settings.index_key_file else "",
                ca_file=settings.index_ca_file,
                cert_file=settings.index_cert_file,
                cert_key_file=settings.index_cert_key_file,
                query_timeout_s=settings.index_query_timeout_s,
                write_timeout_s=settings.index_write_timeout_s,
            )
            shared = WeaviateIndex(
                server,
                dimension=dimension,
                collection=settings.index_collection,
                replicas=settings.index_replicas,
                consistency=settings.index_consistency,
                ann_rows=settings.ann_rows,
            )
            await shared.open()
            lifecycle.on_stop(shared.close, name="index")
            return shared
        case _:
            raise InvalidInput(
                f"index_url: {scheme!r} is not offered; use lancedb://FOLDER or weaviate://HOST[:PORT][?grpc=HOST:PORT]."
            )
