"""The use cases of a generation room, joined around the scripted engine, as unit tests see them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.chassis.auth import Caller, Role
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.events.log import open_event_log
from services.generation.backends.adapter_content import AdapterContent
from services.generation.backends.adapter_files import FolderInspector
from services.generation.backends.adapter_shelf import FolderShelf
from services.generation.backends.adapter_table import SqlAdapterTable, SqlTrialTable, SqlWithheldTable
from services.generation.backends.scripted import ScriptedEngine, ScriptedOptions
from services.generation.consumer import AdapterEvents
from services.generation.domain import AdapterLimits, Sampling, Step
from services.generation.telemetry import Metrics
from services.generation.usecases import (
    Admission,
    CheckAdapter,
    Converge,
    CountTokens,
    Generate,
    LoadAdapters,
    Models,
    RegisterAdapters,
    Registry,
    ScoreContinuations,
    WithholdAdapters,
)
from tests.adapter_announcer import Announcer

LIMITS = AdapterLimits(frozenset({"q_proj", "v_proj"}), max_rank=16, max_bytes=1 << 20)


def caller(subject: str = "anna", tenant: str = "acme", *roles: Role, groups: tuple[str, ...] = ()) -> Caller:
    return Caller(subject, tenant, groups=frozenset(groups), roles=frozenset(roles or {Role.VIEWER}))


ANNA = caller()


class Room:
    """A room in a folder; made again on the same folder it is the room after a restart."""

    def __init__(
        self,
        folder: Path,
        options: str = "mode=echo",
        *,
        max_kept: int = 8,
        limit: int = 4,
        quiet_s: float = 0.0,
        loaded_at_start: int = 8,
    ) -> None:
        self.folder = folder
        self.adapters = folder / "adapters"
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.database = Database(f"sqlite:///{folder / 'room.db'}")
        self.log = open_event_log(f"sqlite:///{folder / 'events.db'}")
        self.blobs = open_blobs(f"file://{folder / 'blobs'}")
        self.engine = ScriptedEngine(ScriptedOptions.from_url(f"scripted://?{options}"), name="base")
        content = AdapterContent(LIMITS, shapes={})
        self.shelf = FolderShelf(self.adapters, blobs=self.blobs, content=content, max_kept=max_kept, quiet_s=quiet_s)
        self.shelf.open()
        self.known = Registry(base=self.engine.base, metrics=metrics)
        self.trials = SqlTrialTable(self.database)
        self.loading = LoadAdapters(
            engine=self.engine, shelf=self.shelf, trials=self.trials, registry=self.known, metrics=metrics
        )
        withheld, by_hand = SqlWithheldTable(self.database), SqlAdapterTable(self.database)
        self.withhold = WithholdAdapters(registry=self.known, table=withheld)
        self.register = RegisterAdapters(
            base="base",
            registry=self.known,
            loading=self.loading,
            table=by_hand,
            inspector=FolderInspector(self.adapters, content=content),
        )
        self.converge = Converge(
            base="base",
            registry=self.known,
            loading=self.loading,
            withheld=withheld,
            by_hand=by_hand,
            loaded_at_start=loaded_at_start,
        )
        self.events = AdapterEvents(log=self.log, converge=self.converge, known=self.known.known, metrics=metrics)
        self.models = Models(
            base=self.engine.base, limits=LIMITS, registry=self.known, loading=self.loading, metrics=metrics
        )
        self.admission = Admission(limit=limit, metrics=metrics)
        self.generate = Generate(engine=self.engine, models=self.models, admission=self.admission, metrics=metrics)
        self.score = ScoreContinuations(engine=self.engine, models=self.models, admission=self.admission)
        self.count = CountTokens(engine=self.engine, models=self.models)
        self.check = CheckAdapter(shelf=self.shelf)

    def announcer(self, tenant: str = "acme") -> Announcer:
        return Announcer(self.log, self.blobs, tenant)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0

    async def answer(self, model: str, who: Caller = ANNA, text: str = "hello") -> str:
        steps = self.generate(caller=who, model=model, prompt=text, sampling=Sampling(max_tokens=20))
        return "".join([step.text async for step in steps if isinstance(step, Step)])

    def names(self, who: Caller = ANNA) -> list[str]:
        return [model.name for model in self.models.list(who)]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    folder: Path, options: str = "mode=echo", *, caught_up: bool = True, **kept: object
) -> AsyncIterator[Room]:
    """Start a room that hears events; `caught_up` waits until it knows what was announced before."""
    room = Room(folder, options, **kept)  # type: ignore[arg-type]
    await migrate(room.database, "services.generation.migrations")
    await room.withhold.restore()
    await room.register.restore()
    hearing = asyncio.create_task(room.events.run())
    try:
        if caught_up:
            async with asyncio.timeout(20):
                await room.known.known.wait()
            room.converge.load_newest()
        yield room
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await room.loading.close()
        await room.log.close()
        await room.database.close()
