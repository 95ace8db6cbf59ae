"""The gateway that serves: the only place that knows every part."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import structlog
import uvicorn
import uvloop
from prometheus_client import REGISTRY, CollectorRegistry

from gateway.api import brain, cohere, health, openai
from gateway.api.app import BodyLimits, Gateway
from gateway.api.openapi import openapi_document
from gateway.api.routing import Route, RouteTable, Services
from gateway.backends import chat, finetuning, generation, ingestion, retrieval
from gateway.backends.database import AnswersTable, AuditTable, KeysTable, UsageTable
from gateway.backends.memory_counters import MemoryCounters
from gateway.backends.probe import HealthProbe
from gateway.bootstrap.http import PatientProtocol, Server, listen
from gateway.policy import POLICY
from gateway.ports import Counters
from gateway.settings import GatewaySettings
from gateway.telemetry import Metrics
from gateway.usecases.authenticate import Authenticate, InternalTokens
from gateway.usecases.checked import CheckedChat, CheckedFeedback, CheckedRetrieval, KnownCollections
from gateway.usecases.keys import CreateKey, KeyUseCases, ListKeys, RevokeKey, RotateKey
from gateway.usecases.ledger import Ledger
from gateway.usecases.limits import Limits, Quotas
from gateway.usecases.repeat import AnswerOnce
from gateway.usecases.withholding import Withholding
from services.chassis.auth import TokenMinter
from services.chassis.database import Database, migrate
from services.chassis.errors import InvalidInput
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import start_logging
from services.chassis.redis_access import RedisAccess
from services.chassis.rpc.client import connect
from services.chassis.rpc.replicas import connect_replicas
from services.chassis.rpc.tls import tls_of
from services.chassis.telemetry import start_telemetry

__all__ = ["Assembled", "all_routes", "assemble", "document", "run"]

_log = structlog.get_logger()
_PRUNE_PAUSE_S = 3600.0
_ROOMS = ("ingestion", "retrieval", "generation", "chat", "finetuning")


def all_routes(services: Services) -> list[Route]:
    """Return the routes of every dialect."""
    return [*health.routes(services), *openai.routes(services), *cohere.routes(services), *brain.routes(services)]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The gateway, ready to serve, and what must be run and closed with it."""

    app: Gateway
    services: Services
    ledger: Ledger
    once: AnswerOnce
    counters: Counters
    database: Database
    channels: Mapping[str, grpc.aio.Channel]

    async def close(self) -> None:
        """Write what is gathered, and let go of everything."""
        await self.ledger.flush()
        for channel in self.channels.values():
            await channel.close()
        await self.counters.close()
        await self.database.close()


def _services(
    database: Database, channels: Mapping[str, grpc.aio.Channel], *, pepper: bytes, timeout_s: float
) -> tuple[Services, Authenticate]:
    keys = KeysTable(database)
    authenticate = Authenticate(keys=keys, pepper=pepper)
    create = CreateKey(keys=keys, pepper=pepper)
    keeper = ingestion.GrpcIngestion(channels["ingestion"])
    collections = KnownCollections(ingestion=keeper)
    adapters = finetuning.GrpcAdapters(channels["finetuning"])
    services = Services(
        ingestion=keeper,
        retrieval=CheckedRetrieval(retrieval=retrieval.GrpcRetrieval(channels["retrieval"]), collections=collections),
        chat=CheckedChat(chat=chat.GrpcChat(channels["chat"], answer_timeout_s=timeout_s), collections=collections),
        feedback=CheckedFeedback(
            feedback=chat.GrpcFeedback(channels["chat"], answer_timeout_s=timeout_s), collections=collections
        ),
        generation=generation.GrpcGeneration(channels["generation"], answer_timeout_s=timeout_s),
        jobs=finetuning.GrpcJobs(channels["finetuning"]),
        graders=finetuning.GrpcGraders(channels["finetuning"]),
        datasets=finetuning.GrpcDatasets(channels["finetuning"]),
        adapters=adapters,
        promotions=finetuning.GrpcPromotions(channels["finetuning"]),
        webhooks=finetuning.GrpcWebhooks(channels["finetuning"]),
        withholding=Withholding(documents=keeper, adapters=adapters),
        probe=HealthProbe(channels),
        keys=KeyUseCases(
            create=create,
            revoke=RevokeKey(keys=keys, forget=authenticate.forget),
            rotate=RotateKey(keys=keys, create=create, forget=authenticate.forget),
            list=ListKeys(keys=keys),
        ),
        meter=UsageTable(database),
        audit=AuditTable(database),
    )
    return services, authenticate


async def assemble(settings: GatewaySettings, registry: CollectorRegistry) -> Assembled:
    """Join the parts; the database is brought up to date."""
    database = Database(settings.database_url, access=settings)
    await migrate(database, "gateway.migrations")
    tls = tls_of(settings)
    channels = {
        "ingestion": connect(settings.ingestion_address, idempotent=ingestion.IDEMPOTENT, tls=tls),
        "retrieval": connect(settings.retrieval_address, idempotent=retrieval.IDEMPOTENT, tls=tls),
        "generation": connect_replicas(settings.generation_address, idempotent=generation.IDEMPOTENT, tls=tls),
        "chat": connect(settings.chat_address, idempotent=chat.IDEMPOTENT, tls=tls),
        "finetuning": connect(settings.finetuning_address, idempotent=finetuning.IDEMPOTENT, tls=tls),
    }
    services, authenticate = _services(
        database, channels, pepper=settings.api_key_secret_file.read_bytes(), timeout_s=settings.answer_timeout_s
    )
    metrics = Metrics(registry)
    counters = _counters(settings, metrics)
    ledger = Ledger(meter=services.meter, audit=services.audit)
    once = AnswerOnce(answers=AnswersTable(database))
    minter = TokenMinter(
        settings.token_private_key_file.read_bytes(), issuer="gateway", lifetime_s=settings.token_lifetime_s
    )
    app = Gateway(
        table=RouteTable(all_routes(services), POLICY),
        policy=POLICY,
        authenticate=authenticate,
        tokens=InternalTokens(minter=minter),
        limits=Limits(
            counters=counters,
            requests_per_minute=settings.requests_per_minute,
            max_concurrent=settings.max_concurrent,
            tenant_requests_per_minute=settings.tenant_requests_per_minute,
            tenant_max_concurrent=settings.tenant_max_concurrent,
            max_in_flight=settings.max_in_flight,
        ),
        quotas=Quotas(meter=services.meter),
        once=once,
        ledger=ledger,
        metrics=metrics,
        bodies=BodyLimits(
            json_bytes=settings.max_json_bytes,
            upload_bytes=settings.max_upload_bytes,
            patience_s=settings.body_patience_s,
            stall_s=settings.stall_s,
        ),
    )
    return Assembled(app, services, ledger, once, counters, database, channels)


def _counters(settings: GatewaySettings, metrics: Metrics) -> Counters:
    """Return what counts requests.

    Raises:
        InvalidInput: The scheme of `limits_url` is not offered.
    """
    scheme = settings.limits_url.partition("://")[0]
    match scheme:
        case "memory":
            return MemoryCounters()
        case "redis" | "rediss":
            from gateway.backends.redis_counters import RedisCounters  # noqa: PLC0415  only the chosen back end

            return RedisCounters(RedisAccess.of(settings.limits_url, settings), alone=metrics.limits_alone)
        case _:
            raise InvalidInput(f"limits_url: {scheme!r} is not offered; use memory:// or redis://HOST:PORT/N.")


async def serve(settings: GatewaySettings) -> None:
    """Serve HTTP until a signal comes."""
    life = Lifecycle("gateway")
    gateway = await assemble(settings, REGISTRY)
    life.on_stop(gateway.close, name="close")
    life.spawn(gateway.ledger.run(), name="ledger")
    life.spawn(gateway.counters.run(), name="counters")
    life.spawn(_prune(gateway.once), name="prune")
    listener = listen(settings.listen)

    class Protocol(PatientProtocol):
        patience_s = settings.body_patience_s
        # The application gives a stream up first, and counts it.
        stall_s = settings.stall_s + 1

    server = Server(
        uvicorn.Config(
            gateway.app,
            loop="none",
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(settings.drain_s)),
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")

    async def stop() -> None:
        server.should_exit = True
        await serving

    life.on_stop(stop, name="http")
    serving.add_done_callback(lambda task: life.end(None if task.cancelled() else task.exception()))
    host, port = listener.getsockname()[:2]
    _log.info("room_ready", room="gateway", address=f"{host}:{port}")
    await life.run_until_signal()


async def _prune(once: AnswerOnce) -> None:
    """Forget old answers once an hour, for ever."""
    while True:
        await once.prune()
        await asyncio.sleep(_PRUNE_PAUSE_S)


async def document() -> dict[str, object]:
    """Return the OpenAPI document; nothing is connected to."""
    database = Database("sqlite://")
    channels = {room: connect("127.0.0.1:1") for room in _ROOMS}
    try:
        services, _ = _services(database, channels, pepper=b"", timeout_s=1)
        return openapi_document(RouteTable(all_routes(services), POLICY), POLICY)
    finally:
        for channel in channels.values():
            await channel.close()
        await database.close()


def run(settings: GatewaySettings) -> None:
    """Serve with this process's logs, traces and metrics, until a signal comes."""
    start_logging("gateway", level=settings.log_level, form=settings.log_format)
    start_telemetry("gateway", settings)
    # A faster loop: the hot path is many small writes.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
