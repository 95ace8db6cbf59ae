"""Brings what this room serves to what was announced."""

from dataclasses import replace

import structlog

from services.chassis.errors import InvalidInput
from services.generation.domain import (
    AdapterState,
    AdapterStatus,
    AliasState,
    Refusal,
    check_adapter_name,
    check_blob_key,
    check_digest,
)
from services.generation.ports import AdapterTable, WithheldTable
from services.generation.usecases.loading import LoadAdapters
from services.generation.usecases.registry import Entry, Registry, Standing

__all__ = ["Converge"]

_log = structlog.get_logger()


class Converge:
    """Applies states of adapters and aliases; the newest counts, in whatever order and however often they come.

    A state is known at once; the files of what was published are fetched and loaded beside everything else. What is
    announced before the start is known first, all of it; then the newest adapters are loaded, and the others when they
    are asked for.

    Args:
        base: Name of the base model.
        registry: What is known.
        loading: Brings adapters into the engine.
        withheld: Remembers what is withheld until a higher revision.
        by_hand: Remembers what was registered by hand, which what is published replaces.
        loaded_at_start: Adapters that are loaded before anybody asks for them.
    """

    def __init__(
        self,
        *,
        base: str,
        registry: Registry,
        loading: LoadAdapters,
        withheld: WithheldTable,
        by_hand: AdapterTable,
        loaded_at_start: int,
    ) -> None:
        self._base = base
        self._registry = registry
        self._loading = loading
        self._withheld = withheld
        self._by_hand = by_hand
        self._loaded_at_start = loaded_at_start

    async def adapter(self, state: AdapterState) -> bool:
        """Apply the state of an adapter; return whether it was news.

        Raises:
            Unavailable: The database is away; nothing was applied.
        """
        present = self._registry.find(state.tenant, state.name)
        if present is not None and present.state is not None and state.revision <= present.revision:
            return False
        if present is not None and present.state is None:
            await self._by_hand.remove(state.tenant, state.name)
            _log.warning("adapter_taken_over", adapter=state.name)
        # Forgotten first: a restart in between finds the higher revision in the log.
        until = self._registry.withheld_until(state.tenant, state.name)
        if until is not None and until < state.revision:
            await self._withheld.remove(state.tenant, state.name)
            self._registry.lift(state.tenant, state.name)
        # Anew: something may have been registered while the database was asked.
        self._apply(state, self._registry.find(state.tenant, state.name))
        _log.info("adapter_announced", adapter=state.name, status=state.status.value, revision=state.revision)
        return True

    def block(self, tenant: str, name: str, *, reason: str) -> None:
        """Refuse an adapter of which something was announced that cannot be read; its next state decides again."""
        entry = self._registry.find(tenant, name)
        if entry is None or entry.state is None or not entry.may_serve():
            return
        entry.state = replace(entry.state, reason=reason)
        entry.standing = Standing.BLOCKED
        self._loading.settle(entry)
        self._registry.count()

    def alias(self, state: AliasState) -> bool:
        """Apply the state of an alias; return whether it was news."""
        present = self._registry.alias(state.tenant, state.alias)
        if present is not None and state.revision <= present.revision:
            return False
        if self._registry.is_model(state.tenant, state.alias):
            _log.warning("alias_shadowed", alias=state.alias)
        self._registry.put_alias(state)
        _log.info("alias_announced", alias=state.alias, target=state.target, revision=state.revision)
        return True

    def load_newest(self) -> None:
        """Load the newest of what was announced before the start."""
        waiting = [it for it in self._registry if it.standing is Standing.WAITING and it.loading is None]
        for entry in sorted(waiting, key=lambda it: it.created_at, reverse=True)[: self._loaded_at_start]:
            self._loading.start(entry)

    def _apply(self, state: AdapterState, present: Entry | None) -> None:
        entry = present
        published = state.status is AdapterStatus.PUBLISHED
        if entry is None or (published and entry.source.content != state.source.content):
            entry = Entry.published(state)
            self._registry.put(entry)
            if present is not None:
                # Other files under the same name: whatever runs on those before ends as it would.
                present.standing = Standing.GONE
                self._loading.settle(present)
        elif published:
            entry.source = state.source
        entry.state, entry.principals = state, state.principals
        self._stand(entry, state.status)
        self._registry.count()

    def _stand(self, entry: Entry, status: AdapterStatus) -> None:
        match status:
            case AdapterStatus.PUBLISHED if entry.standing is Standing.READY:
                pass
            case AdapterStatus.PUBLISHED:
                self._publish(entry)
            case AdapterStatus.BLOCKED:
                entry.standing = Standing.BLOCKED
                self._loading.settle(entry)
            case AdapterStatus.DELETED:
                entry.standing = Standing.GONE
                self._loading.settle(entry)

    def _publish(self, entry: Entry) -> None:
        entry.standing, entry.refusal = Standing.WAITING, None
        source = entry.source
        try:
            check_adapter_name(entry.name, self._base)
            check_digest(source.config_digest, "config_digest")
            check_digest(source.weights_digest, "weights_digest")
            check_blob_key(source.config_key, entry.tenant, "config_blob_key")
            check_blob_key(source.weights_key, entry.tenant, "weights_blob_key")
        except InvalidInput as error:
            self._loading.refuse(entry, Refusal.ANNOUNCEMENT, error.message)
            return
        if self._registry.known.is_set():
            self._loading.start(entry)
        else:
            entry.listed = True
