"""The room's records on SQLite, and what stands for the rooms around it in memory."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.auth import Caller, Role
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import Conflict, Unavailable
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import JobTable
from services.finetuning.backends import tables
from services.finetuning.backends.ledger import SqlLedger
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, AdapterVersion
from services.finetuning.domain.owners import Owner
from services.finetuning.ports.serving import AdapterCheck, EngineLimits
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.promoting import Gate, Promotions
from services.finetuning.usecases.registry import Registry
from services.finetuning.usecases.settling import AwaitEngine

MARA = Caller("mara", "acme", frozenset({"staff"}), frozenset({Role.TRAINER}))
OTTO = Caller("otto", "acme", frozenset({"staff"}), frozenset({Role.TRAINER}))
EVE = Caller("eve", "acme", frozenset({"sales"}), frozenset({Role.TRAINER}))
BOSS = Caller("boss", "acme", frozenset(), frozenset({Role.ADMINISTRATOR}))
FOREIGNER = Caller("mara", "globex", frozenset({"staff"}), frozenset({Role.ADMINISTRATOR}))
BASE = "smollm2-135m-instruct"


@dataclass
class Engine:
    """An engine that remembers what it was told to refuse."""

    withheld: list[tuple[str, int]] = field(default_factory=list)
    away: bool = False
    asked: list[str] = field(default_factory=list)
    refuses: str = ""
    # How often each adapter, and each alias, is asked for before it is there.
    slow: int = 0
    aliases: dict[str, str] = field(default_factory=dict)

    async def limits(self) -> EngineLimits:
        return EngineLimits(BASE, "", "", 16, (), 1 << 30)

    async def check(self, *, config_key: str, weights_key: str) -> AdapterCheck:
        return AdapterCheck("w" * 64, "c" * 64, 8, 100)

    async def serves(self, name: str) -> bool:
        self.asked.append(name)
        if self.away:
            raise Unavailable("The engine is away.")
        if self.refuses:
            raise Conflict(self.refuses)
        return self.asked.count(name) > self.slow

    async def leads(self, alias: str) -> str:
        self.asked.append(alias)
        if self.away:
            raise Unavailable("The engine is away.")
        return self.aliases.get(alias, "") if self.asked.count(alias) > self.slow else ""

    async def withhold(self, adapters: Sequence[tuple[str, int]]) -> None:
        if self.away:
            raise Unavailable("The engine is away.")
        self.withheld += adapters


@dataclass
class Room:
    """The parts of the room that keep records."""

    ledger: SqlLedger
    database: Database
    blobs: BlobStore
    engine: Engine
    metrics: Metrics
    promotions: Promotions
    registry: Registry
    clock: Iterator[float]
    retrained: list[str] = field(default_factory=list)

    async def retrain(self, version: AdapterVersion) -> None:
        self.retrained.append(version.name)

    def now(self) -> float:
        return next(self.clock)

    async def publish(self, name: str, *, owner: Caller = MARA, principals: tuple[str, ...] = ("group:staff",), sources: Sequence[AdapterSource] = (), job_id: str = "", step: int = 0) -> AdapterVersion:  # fmt: skip
        version = AdapterVersion(
            name=name,
            tenant=owner.tenant,
            suffix="hr",
            number=1,
            owner=Owner.of(owner),
            created_at=self.now(),
            status=AdapterStatus.PUBLISHED,
            config_key=f"{name}/config",
            weights_key=f"{name}/weights",
            weights_digest="w",
            config_digest="c",
            size_bytes=2,
            rank=8,
            base_model=BASE,
            base_digest="b",
            base_licence="Apache-2.0",
            template_hash="t",
            job_id=job_id,
            step=step,
            principals=principals,
        )
        for key in (version.config_key, version.weights_key):
            await self.blobs.put(key, b"x")
        async with self.ledger.change() as change:
            await change.put_adapter(version)
            await change.put_sources(owner.tenant, name, sources)
            await change.announce_adapter(version)
        return version

    async def announced(self) -> list[tuple[str, str]]:
        """The facts that wait to be told: type and key."""
        async with self.database.connect() as connection:
            rows = await connection.execute(tables.outbox.select().order_by(tables.outbox.c.id))
            return [(row.type, row.key) for row in rows]


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    database = Database(database_url)
    await migrate(database, "services.finetuning.migrations")
    clock = itertools.count(1_000.0)
    metrics = Metrics(CollectorRegistry())
    ledger = SqlLedger(
        database,
        jobs=JobTable(database, tables.jobs),
        outbox=Outbox(tables.outbox),
        webhooks=SqlWebhookStore(database, tables.webhooks),
        on_kept=lambda: None,
    )
    engine, blobs = Engine(), open_blobs("memory://")
    await_engine = AwaitEngine(serving=engine, patience_s=0.3, alias_patience_s=0.0)
    promotions = Promotions(
        ledger=ledger,
        base_model=BASE,
        gate=Gate.VALIDATION_LOSS,
        canary_weight=0.1,
        min_judgements=5,
        await_engine=await_engine,
        metrics=metrics,
        now=lambda: next(clock),
    )
    registry = Registry(
        ledger=ledger,
        blobs=blobs,
        serving=engine,
        promotions=promotions,
        await_engine=await_engine,
        metrics=metrics,
        now=lambda: next(clock),
    )
    yield Room(ledger, database, blobs, engine, metrics, promotions, registry, clock)
    await database.close()
