"""Serves adapters that somebody put into the room's folder."""

import asyncio
from datetime import UTC, datetime

import structlog

from services.chassis.errors import BrainError, Conflict, InvalidInput, NotFound, Unavailable
from services.generation.domain import Registration, check_adapter_name
from services.generation.ports import AdapterInspector, AdapterTable
from services.generation.usecases.loading import LoadAdapters
from services.generation.usecases.registry import Entry, Registry, Standing

__all__ = ["RegisterAdapters"]

_log = structlog.get_logger()


class RegisterAdapters:
    """Registers and unregisters by hand. Everybody in the tenant may ask what is registered.

    Args:
        base: Name of the base model.
        registry: What is known.
        loading: Brings adapters into the engine.
        table: Remembers what was registered.
        inspector: Looks into a directory before anything of it is used.
    """

    def __init__(
        self,
        *,
        base: str,
        registry: Registry,
        loading: LoadAdapters,
        table: AdapterTable,
        inspector: AdapterInspector,
    ) -> None:
        self._base = base
        self._registry = registry
        self._loading = loading
        self._table = table
        self._inspector = inspector
        # Two of one name must not cross.
        self._changing = asyncio.Lock()

    async def register(self, tenant: str, name: str, path: str) -> tuple[Entry, Registration]:
        """Serve the adapter in directory `path` as `name`; again the same is no error.

        Raises:
            InvalidInput: The name or the directory cannot be served.
            TooLarge: The weights exceed the limit.
            Conflict: The tenant has another adapter or an alias of that name.
            Unavailable: It is not known yet what was published, or the engine is away.
        """
        check_adapter_name(name, self._base)
        async with self._changing:
            files = await self._inspector.inspect(path)
            registration = Registration(tenant, name, files, datetime.now(UTC))
            present = self._present(tenant, name)
            if present is not None:
                if present.source == Entry.by_hand(registration).source:
                    return present, registration
                raise Conflict(f"name: {name!r} is served with other weights; unregister it first.", param="name")
            await self._table.add(registration)
            entry = Entry.by_hand(registration)
            try:
                await self._loaded(entry)
                # Meanwhile something of that name may have been announced, which goes before.
                self._present(tenant, name)
            except BrainError:
                await self._table.remove(tenant, name)
                entry.standing = Standing.GONE
                self._loading.settle(entry)
                raise
            self._registry.put(entry)
            _log.info("adapter_registered", adapter=name, digest=files.digest, rank=files.rank)
            return entry, registration

    async def unregister(self, tenant: str, name: str) -> None:
        """Stop serving an adapter; what runs with it ends as it would.

        Raises:
            NotFound: The tenant has no such adapter.
            Conflict: It was not registered by hand.
        """
        async with self._changing:
            entry = self._present(tenant, name)
            removed = await self._table.remove(tenant, name)
            if entry is None and not removed:
                raise NotFound(f"name: there is no adapter {name[:140]!r}.", param="name")
            if entry is not None:
                self._registry.drop(entry)
                entry.standing = Standing.GONE
                self._loading.settle(entry)
            _log.info("adapter_unregistered", adapter=name)

    async def restore(self) -> None:
        """Serve again what was served before the restart.

        What has changed or vanished on disk since is not served and said in the log; its row stays, so that mending
        the directory mends it.
        """
        for registration in await self._table.all():
            try:
                files = await self._inspector.inspect(registration.files.path)
                was = registration.files
                if files.digest != was.digest or (was.config_digest and files.config_digest != was.config_digest):
                    raise Conflict("The files are not those that were registered.")
                entry = Entry.by_hand(
                    Registration(registration.tenant, registration.name, files, registration.created_at)
                )
                await self._loaded(entry)
            except BrainError as error:
                _log.error("adapter_not_restored", adapter=registration.name, reason=error.message)
                continue
            self._registry.put(entry)

    def _present(self, tenant: str, name: str) -> Entry | None:
        """Return what was registered by hand under a name.

        Raises:
            Conflict: Something else has the name.
            Unavailable: It is not known yet.
        """
        if not self._registry.known.is_set():
            raise Unavailable("It is not known yet what was published.", retry_after_s=1.0)
        present = self._registry.find(tenant, name)
        if present is not None and present.state is not None:
            raise Conflict(f"name: {name!r} was published; it is changed where it was trained.", param="name")
        alias = self._registry.alias(tenant, name)
        if present is None and alias is not None and alias.target:
            raise Conflict(f"name: {name!r} is an alias; use another name.", param="name")
        return present

    async def _loaded(self, entry: Entry) -> None:
        """Load an adapter.

        Raises:
            BrainError: It is refused, or the engine is away.
        """
        await self._loading.prepare(entry)
        if entry.standing is Standing.READY:
            return
        if entry.refusal is not None:
            raise InvalidInput(f"path: {entry.refusal[1]}", param="path")
        raise entry.trouble or Unavailable("The adapter could not be loaded.", retry_after_s=1.0)
