"""Makes the room's choices and joins its parts."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import REGISTRY

from brain.generation.v1 import generation_pb2_grpc, model_pb2_grpc
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import Unsupported
from services.chassis.events.log import open_event_log
from services.chassis.lifecycle import Lifecycle
from services.chassis.models.folder import PACKAGED, BaseModel, open_model
from services.chassis.models.packaged import PACKAGED_WINDOW
from services.chassis.moving.part import RoomPart
from services.chassis.rpc.server import RpcServer
from services.generation.api import GenerationServicer, ModelServicer
from services.generation.backends.adapter_content import AdapterContent
from services.generation.backends.adapter_files import FolderInspector, base_shapes
from services.generation.backends.adapter_shelf import FolderShelf
from services.generation.backends.adapter_table import TRIALS, SqlAdapterTable, SqlTrialTable, SqlWithheldTable
from services.generation.consumer import ADAPTER_TOPIC, AdapterEvents
from services.generation.domain import AdapterLimits
from services.generation.policy import DELEGATES, POLICY
from services.generation.ports import Engine
from services.generation.settings import GenerationSettings
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
    WatchEngine,
    WithholdAdapters,
)

if TYPE_CHECKING:
    from services.generation.backends.vllm import VllmOptions

__all__ = ["engine_environment", "engine_options", "moving", "serve"]

Shapes = Mapping[str, tuple[int, int]]

_log = structlog.get_logger()
# The linear layers of today's decoder models. Embeddings and the output layer are left out: with them the engine's CPU
# kernels fail on scoring and cost time on every token.
LORA_MODULES: Final = frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "qkv_proj",
        "gate_up_proj",
        "query_key_value",
        "dense",
        "dense_h_to_4h",
        "dense_4h_to_h",
        "c_attn",
        "c_proj",
        "c_fc",
        "fc1",
        "fc2",
        "out_proj",
        "wqkv",
        "wo",
        "w1",
        "w2",
        "w3",
    ]
)


async def serve(settings: GenerationSettings) -> None:
    """Run the room until a signal comes."""
    life = Lifecycle("generation")
    metrics = Metrics(REGISTRY)
    database = Database(settings.database, access=settings)
    life.on_stop(database.close, name="database")
    await migrate(database, "services.generation.migrations")
    log = open_event_log(settings.events, compacted=[ADAPTER_TOPIC], access=settings)
    life.on_stop(log.close, name="events")
    engine, shapes = await _engine(settings)
    life.on_stop(engine.close, name="engine")
    adapters = await _adapters(settings, life, database=database, engine=engine, shapes=shapes, metrics=metrics)
    admission = Admission(limit=settings.max_inflight, metrics=metrics)
    server = RpcServer.of(settings, room="generation", policy=POLICY, registry=REGISTRY, delegates=DELEGATES)
    models = adapters.models
    server.add(
        generation_pb2_grpc.add_GenerationServiceServicer_to_server,
        GenerationServicer(
            generate=Generate(engine=engine, models=models, admission=admission, metrics=metrics),
            score=ScoreContinuations(engine=engine, models=models, admission=admission),
            count=CountTokens(engine=engine, models=models),
        ),
        "brain.generation.v1.GenerationService",
    )
    server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, adapters.servicer, "brain.generation.v1.ModelService")
    address = await server.start()
    life.on_stop(lambda: server.stop(settings.drain_s), name="server")
    known = adapters.registry.known
    events = AdapterEvents(log=log, converge=adapters.converge, known=known, metrics=metrics)
    life.spawn(events.run(), name="adapter-events")

    readiness = _Readiness(server)
    watch = WatchEngine(
        engine=engine,
        admission=admission,
        report=readiness.engine,
        metrics=metrics,
        every_s=settings.probe_every_s,
        timeout_s=settings.probe_timeout_s,
        standstill_s=settings.standstill_timeout_s,
    )

    async def begin() -> None:
        # Until everything announced before the start is known, nobody is told that the room serves: something of it
        # may be blocked.
        await known.wait()
        adapters.converge.load_newest()
        await readiness.known()
        _log.info(
            "room_ready",
            room="generation",
            address=address,
            engine=engine.base.engine,
            model=engine.base.name,
            context_window=engine.base.context_window,
        )

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(begin())
            group.create_task(watch.run())

    life.spawn(run(), name="watch-engine")
    await life.run_until_signal()


def moving(settings: GenerationSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    return RoomPart(
        room="generation",
        database_url=settings.database,
        access=settings,
        migrations="services.generation.migrations",
        # What this machine's engine is being tried with.
        left_out=frozenset({TRIALS.name}),
    )


class _Readiness:
    """Tells that the room serves when both are so: the engine makes progress, and it is known what may be served."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server
        self._moves = False
        self._knows = False

    async def engine(self, serving: bool) -> None:
        """Hear of the engine."""
        self._moves = serving
        await self._server.set_serving(serving=self._moves and self._knows)

    async def known(self) -> None:
        """Hear that everything is known."""
        self._knows = True
        await self._server.set_serving(serving=self._moves)


@dataclass(frozen=True, slots=True)
class _Adapters:
    """What serves adapters, joined."""

    registry: Registry
    models: Models
    converge: Converge
    servicer: ModelServicer


async def _adapters(
    settings: GenerationSettings,
    life: Lifecycle,
    *,
    database: Database,
    engine: Engine,
    shapes: Shapes,
    metrics: Metrics,
) -> _Adapters:
    """Join what serves adapters, and take up what was remembered."""
    limits = AdapterLimits(_adaptable(shapes), settings.max_lora_rank, settings.max_adapter_bytes)
    content = AdapterContent(limits, shapes=shapes)
    shelf = FolderShelf(
        settings.adapters,
        blobs=open_blobs(settings.blobs),
        content=content,
        max_kept=settings.max_adapters_on_disk,
    )
    await asyncio.to_thread(shelf.open)
    base = engine.base
    registry = Registry(base=base, metrics=metrics)
    loading = LoadAdapters(
        engine=engine, shelf=shelf, trials=SqlTrialTable(database), registry=registry, metrics=metrics
    )
    life.on_stop(loading.close, name="adapter-loads")
    withheld, by_hand = SqlWithheldTable(database), SqlAdapterTable(database)
    withhold = WithholdAdapters(registry=registry, table=withheld)
    register = RegisterAdapters(
        base=base.name,
        registry=registry,
        loading=loading,
        table=by_hand,
        inspector=FolderInspector(settings.adapters, content=content),
    )
    await withhold.restore()
    await register.restore()
    converge = Converge(
        base=base.name,
        registry=registry,
        loading=loading,
        withheld=withheld,
        by_hand=by_hand,
        # More than the engine keeps in memory would only push each other out.
        loaded_at_start=min(settings.max_cpu_loras, settings.max_adapters_on_disk),
    )
    models = Models(base=base, limits=limits, registry=registry, loading=loading, metrics=metrics)
    life.spawn(loading.run(), name="adapter-retries")
    servicer = ModelServicer(models=models, register=register, check=CheckAdapter(shelf=shelf), withhold=withhold)
    return _Adapters(registry, models, converge, servicer)


async def _engine(settings: GenerationSettings) -> tuple[Engine, Shapes]:
    """Return the engine and the shapes of its base model's layers."""
    scheme = settings.engine.partition("://")[0]
    match scheme:
        case "scripted":
            from services.generation.backends.scripted import (  # noqa: PLC0415  only what is chosen is imported
                ScriptedEngine,
                ScriptedOptions,
            )

            options = ScriptedOptions.from_url(settings.engine)
            return ScriptedEngine(options, name=settings.served_name or f"scripted-{options.mode}"), {}
        case "vllm":
            return await _vllm(settings)
        case _:
            raise Unsupported(f"engine: {scheme!r} is not offered; use vllm:// or scripted://.", param="engine")


def engine_environment(settings: GenerationSettings) -> dict[str, str]:
    """Return what the real engine is told through the environment, before anything of it is imported."""
    told = {
        # Whole GiB; with eager mode an explicit size skips the engine's warm-up.
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CACHE_ROOT": str(settings.cache_dir / "vllm"),
        # Forked children of a process with threads hang; CUDA cannot be used in them at all.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Two threads beside another busy process are many times slower than one.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "false"),
    }
    if settings.offline or settings.model == PACKAGED or _is_folder(settings.model):
        told |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return told


def engine_options(settings: GenerationSettings, base: BaseModel, shapes: Shapes) -> "VllmOptions":
    """Return how the real engine is started; imports it.

    Args:
        settings: The room's.
        base: The base model.
        shapes: Shapes of its layers.
    """
    from services.generation.backends.vllm import VllmOptions  # noqa: PLC0415  after the environment

    return VllmOptions(
        model=str(base.folder),
        name=base.name,
        base_digest=base.digest,
        template_hash=base.template_hash,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len or (PACKAGED_WINDOW if settings.model == PACKAGED else 0),
        lora_modules=tuple(sorted(_adaptable(shapes))),
        max_loras=settings.max_loras,
        max_cpu_loras=settings.max_cpu_loras,
        max_lora_rank=settings.max_lora_rank,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        distributed_executor=settings.distributed_executor,
        kv_cache_dtype=settings.kv_cache_dtype,
        quantization=settings.quantization,
        block_size=settings.block_size,
        eager={"auto": None, "true": True, "false": False}[settings.eager],
        max_num_seqs=settings.max_num_seqs,
    )


async def _vllm(settings: GenerationSettings) -> tuple[Engine, Shapes]:
    """Start the real engine."""
    from services.generation.backends.orphan_guard import OrphanGuard  # noqa: PLC0415

    guard = OrphanGuard()
    os.environ |= engine_environment(settings)
    base = await open_model(settings.model, cache=settings.cache_dir, served_name=settings.served_name)
    _log.info("engine_starting", model=settings.model)

    from services.generation.backends.vllm import VllmEngine  # noqa: PLC0415  after the environment

    shapes = await asyncio.to_thread(base_shapes, base.folder)
    options = engine_options(settings, base, shapes)
    if options.compiles_nothing:
        # The engine would compile a piece of its sampler all the same, with a C++ compiler and for tens of seconds, at
        # the first request for log probabilities; everybody else waits meanwhile.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    with guard.watching():
        return await VllmEngine.start(options, guard), shapes


def _adaptable(shapes: Shapes) -> frozenset[str]:
    """Return the layers that adapters may change: those of the list that the base model has, all where it is unknown."""
    present = frozenset(name.rsplit(".", 1)[-1] for name in shapes)
    return LORA_MODULES & present if shapes else LORA_MODULES


def _is_folder(model: str) -> bool:
    return Path(model).is_dir()
