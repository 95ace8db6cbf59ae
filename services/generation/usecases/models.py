"""The models that a caller may ask, by the names that requests use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from services.chassis.auth import Caller
from services.chassis.errors import BrainError
from services.generation.domain import Adapter, AdapterLimits, Model
from services.generation.telemetry import Metrics
from services.generation.usecases.loading import LoadAdapters
from services.generation.usecases.registry import Entry, Registry, Standing

__all__ = ["Held", "Models"]


class Held:
    """A model that a request runs on.

    Attributes:
        name: The model's own name, whatever alias led to it.
        adapter: The adapter in the engine; None for the base model.
    """

    def __init__(
        self, name: str, adapter: Adapter | None, registry: Registry, caller: Caller, entry: Entry | None
    ) -> None:
        self.name = name
        self.adapter = adapter
        self._registry = registry
        self._caller = caller
        self._entry = entry

    def check(self) -> None:
        """Return if what is produced may still be handed out.

        What was blocked or taken from the caller's reach since the start ends at its next step: what it would say next
        may be just what must not be read any more. What was merely deleted or replaced ends as it would.

        Raises:
            PermissionDenied: It is blocked or withheld.
            NotFound: It is no longer for this caller.
        """
        if self._entry is not None and self._entry.standing is not Standing.GONE:
            self._registry.check(self._caller, self._entry)


class Models:
    """Finds models and holds them while they are asked.

    Args:
        base: The base model.
        limits: What adapters may be.
        registry: What is known.
        loading: Brings adapters into the engine.
        metrics: Where aliases are counted.
    """

    def __init__(
        self, *, base: Model, limits: AdapterLimits, registry: Registry, loading: LoadAdapters, metrics: Metrics
    ) -> None:
        self._base = base
        self._limits = limits
        self._registry = registry
        self._loading = loading
        self._metrics = metrics

    def find(self, caller: Caller, model: str) -> str:
        """Return the name of the model that `model` stands for when the caller names it.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
            Unavailable: It is not known yet what may be served.
        """
        entry = self._registry.resolve(caller, model).entry
        return entry.name if entry else self._base.name

    @asynccontextmanager
    async def hold(self, caller: Caller, model: str) -> AsyncIterator[Held]:
        """Hold a model within the block: its files stay, and it is in the engine.

        An adapter that is not in the engine is brought there first, which takes from milliseconds to as long as its
        files take to be fetched.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
            Unavailable: It is not known yet what may be served, or the files cannot be had at the moment.
        """
        entry = self._resolved(caller, model)
        if entry is None:
            yield Held(self._base.name, None, self._registry, caller, None)
            return
        entry.leases += 1
        try:
            await self._loading.prepare(entry)
            # It may have been blocked or refused while its files were fetched.
            self._registry.check(caller, entry)
            adapter = await self._loading.take(entry)
            try:
                yield Held(entry.name, adapter, self._registry, caller, entry)
            finally:
                self._loading.give_back(entry)
        finally:
            entry.leases -= 1
            self._loading.settle(entry)

    def list(self, caller: Caller) -> list[Model]:
        """Return what the caller may ask: the base model, adapters, aliases."""
        adapters = {entry.name: self.model(entry) for entry in self._registry.visible(caller)}
        return [
            replace(self._base, limits=self._limits),
            *adapters.values(),
            *(
                replace(adapters.get(it.target, self._base), name=it.alias, parent=it.target, alias=True)
                for it in self._registry.visible_aliases(caller)
            ),
        ]

    def model(self, entry: Entry) -> Model:
        """Return an adapter as a model."""
        return replace(self._base, name=entry.name, created_at=entry.created_at, parent=self._base.name)

    def _resolved(self, caller: Caller, model: str) -> Entry | None:
        try:
            resolved = self._registry.resolve(caller, model)
        except BrainError:
            if self._registry.alias(caller.tenant, model) and not self._registry.is_model(caller.tenant, model):
                self._metrics.alias_resolutions.labels(outcome="nobody").inc()
            raise
        if resolved.outcome:
            self._metrics.alias_resolutions.labels(outcome=resolved.outcome).inc()
        return resolved.entry
