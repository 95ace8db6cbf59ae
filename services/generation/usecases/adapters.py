"""Serves adapters beside the base model, each to its own tenant only."""

import asyncio
import time

import structlog

from services.chassis.errors import BrainError, Conflict, NotFound
from services.generation.domain import Adapter, Model, check_adapter_name
from services.generation.ports import AdapterInspector, AdapterTable, Engine
from services.generation.telemetry import Metrics

__all__ = ["Adapters"]

_log = structlog.get_logger()


class Adapters:
    """Knows which adapters are served.

    Args:
        engine: What serves them.
        table: Remembers them over a restart.
        inspector: Looks into a directory before the engine does.
        metrics: Where loads are timed.
    """

    def __init__(self, *, engine: Engine, table: AdapterTable, inspector: AdapterInspector, metrics: Metrics) -> None:
        self._engine = engine
        self._table = table
        self._inspector = inspector
        self._metrics = metrics
        self._served: dict[tuple[str, str], Adapter] = {}
        # One load at a time: it takes the engine's attention, and two of one name must not cross.
        self._changing = asyncio.Lock()

    def find(self, tenant: str, model: str) -> Adapter | None:
        """Return the adapter that `model` names; None for the base model (named or empty).

        Raises:
            NotFound: The tenant has no such model.
        """
        if model in {"", self._engine.base.name}:
            return None
        adapter = self._served.get((tenant, model))
        if adapter is None:
            raise NotFound(f"model: there is no model {model[:140]!r}.", param="model")
        return adapter

    def models(self, tenant: str) -> list[Model]:
        """Return what the tenant may ask, the base model first."""
        return [self._engine.base, *(self.model(it) for (owner, _), it in self._served.items() if owner == tenant)]

    def model(self, adapter: Adapter) -> Model:
        """Return the adapter as a model."""
        base = self._engine.base
        return Model(adapter.name, base.context_window, base.engine, adapter.created_at, parent=base.name)

    async def register(self, tenant: str, name: str, path: str) -> Adapter:
        """Serve the adapter in directory `path` as `name`; again the same is no error.

        Raises:
            InvalidInput: The name or the directory cannot be served.
            TooLarge: The weights exceed the limit.
            Conflict: The tenant has another adapter of that name.
        """
        check_adapter_name(name, self._engine.base.name)
        async with self._changing:
            began = time.perf_counter()
            files = await self._inspector.inspect(path)
            present = self._served.get((tenant, name))
            if present is not None and present.files == files:
                return present
            if present is not None:
                raise Conflict(f"name: {name!r} is served with other weights; unregister it first.", param="name")
            adapter = await self._table.add(tenant, name, files)
            try:
                await self._engine.load(adapter)
            except BrainError:
                await self._table.remove(tenant, name)
                raise
            self._serve(adapter)
            seconds = time.perf_counter() - began
            self._metrics.adapter_load.observe(seconds)
            _log.info(
                "adapter_registered", adapter=name, digest=files.digest, rank=files.rank, seconds=round(seconds, 3)
            )
            return adapter

    async def unregister(self, tenant: str, name: str) -> None:
        """Stop serving an adapter; what runs with it ends as it would.

        Raises:
            NotFound: The tenant has no such adapter.
        """
        async with self._changing:
            adapter = self._served.pop((tenant, name), None)
            removed = await self._table.remove(tenant, name)
            if adapter is None and removed is None:
                raise NotFound(f"name: there is no adapter {name[:140]!r}.", param="name")
            if adapter is not None:
                await self._engine.unload(adapter)
            self._metrics.adapters.set(len(self._served))
            _log.info("adapter_unregistered", adapter=name)

    async def restore(self) -> None:
        """Serve again what was served before the restart.

        What has changed or vanished on disk since is not served and said in the log; its row stays, so that mending
        the directory mends it.
        """
        for adapter in await self._table.all():
            try:
                files = await self._inspector.inspect(adapter.files.path)
                if files.digest != adapter.files.digest:
                    raise Conflict("The weights are not those that were registered.")
                await self._engine.load(adapter)
            except BrainError as error:
                _log.error("adapter_not_restored", adapter=adapter.name, reason=error.message)
                continue
            self._serve(adapter)

    def _serve(self, adapter: Adapter) -> None:
        self._served[adapter.tenant, adapter.name] = adapter
        self._metrics.adapters.set(len(self._served))
