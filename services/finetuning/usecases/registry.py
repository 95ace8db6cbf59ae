"""The registry as people handle it: list, look, block, accept, delete."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, Conflict, InvalidInput
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, AdapterVersion
from services.finetuning.ports.blobs import Blobs
from services.finetuning.ports.records import Change, Ledger, Page
from services.finetuning.ports.serving import Serving
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.lookup import known_adapter, owned_adapter, usable
from services.finetuning.usecases.promoting import Promotions
from services.finetuning.usecases.settling import AwaitEngine

__all__ = ["AdapterView", "Registry"]

_log = structlog.get_logger()
_MAX_REASON_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class AdapterView:
    """An adapter with its lineage and the aliases that lead to it."""

    version: AdapterVersion
    sources: tuple[AdapterSource, ...] = ()
    aliases: tuple[str, ...] = ()


class Registry:
    """Shows adapters and changes whether they may be asked.

    Args:
        ledger: Records.
        blobs: Where weights lie.
        serving: The engine that serves them.
        promotions: Ends promotions of what is blocked.
        await_engine: Waits until the engine serves again what is accepted.
        metrics: Where blocks are counted.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        serving: Serving,
        promotions: Promotions,
        await_engine: AwaitEngine,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._serving = serving
        self._promotions = promotions
        self._await_engine = await_engine
        self._metrics = metrics
        self._now = now

    async def get(self, caller: Caller, name: str) -> AdapterView:
        """Return an adapter with its lineage."""
        version = await known_adapter(self._ledger, caller, name)
        return await self._view(version, with_sources=True)

    async def page(self, caller: Caller, page: Page, *, document_id: str) -> tuple[list[AdapterView], bool]:
        """Return a page of the adapters that the caller may know of, and whether more follow."""
        kept: list[AdapterVersion] = []
        after = page.after
        # What the caller may not know of is left out after reading, so that a page may take several.
        while len(kept) <= page.limit:
            found = await self._ledger.adapters(caller.tenant, Page(page.limit, after), document_id=document_id)
            kept += [version for version in found[: page.limit] if usable(caller, version)]
            if len(found) <= page.limit:
                break
            after = found[page.limit - 1].name
        views = [await self._view(version, with_sources=False) for version in kept[: page.limit]]
        return views, len(kept) > page.limit

    async def block(self, caller: Caller, name: str, reason: str) -> AdapterView:
        """Refuse an adapter to everybody, at once."""
        async with self._ledger.change() as change:
            version = await owned_adapter(change, caller, name)
            if version.status is not AdapterStatus.BLOCKED:
                version = await self.refuse(change, version, "by_hand", _reason(reason))
        await self.withhold([version])
        return await self._view(version, with_sources=True)

    async def accept(self, caller: Caller, name: str, reason: str) -> AdapterView:
        """Serve a blocked adapter again, although something that it saw is gone; who said so and why is recorded.

        Returns when the engine serves it: whoever accepted it can ask it with the next request.

        Raises:
            InvalidInput: No reason was given.
            Conflict: It is not blocked.
        """
        if not reason.strip():
            raise InvalidInput("reason: say why this adapter may be served; it is recorded.", param="reason")
        async with self._ledger.change() as change:
            version = await owned_adapter(change, caller, name)
            if version.status is not AdapterStatus.BLOCKED:
                raise Conflict(
                    f"name: {name} is {version.status.value}; only a blocked one can be accepted.", param="name"
                )
            version = replace(
                version,
                status=AdapterStatus.PUBLISHED,
                reason_code="",
                reason=f"accepted by {caller.subject}: {_reason(reason)}",
                revision=version.revision + 1,
            )
            await change.put_adapter(version)
            await change.announce_adapter(version)
        _log.warning("adapter_accepted", adapter=name, by=caller.subject)
        if why := await self._await_engine([name]):
            _log.warning("adapter_not_served_yet", adapter=name, reason=why)
        return await self._view(version, with_sources=True)

    async def delete(self, caller: Caller, name: str) -> None:
        """Remove an adapter, its checkpoints' adapters, and their files.

        Raises:
            Conflict: An alias leads to it.
        """
        async with self._ledger.change() as change:
            version = await owned_adapter(change, caller, name)
            family = [version]
            if version.job_id and not version.step:
                others = await change.adapters_of_job(caller.tenant, version.job_id)
                family += [other for other in others if other.name != name]
            names = {one.name for one in family}
            for alias in await change.aliases(caller.tenant):
                if names & {alias.target, alias.canary}:
                    raise Conflict(f"name: the alias {alias.alias!r} leads to {name}; move it first.", param="name")
            gone = [replace(one, status=AdapterStatus.DELETED, revision=one.revision + 1) for one in family]
            for one in gone:
                await change.put_adapter(one)
                await change.announce_adapter(one)
        await self.withhold(gone)
        await self._blobs.delete(key for one in gone for key in (one.config_key, one.weights_key))

    async def refuse(self, change: Change, version: AdapterVersion, code: str, reason: str) -> AdapterVersion:
        """Block an adapter in a transaction; `withhold` it when that is kept."""
        blocked = replace(
            version,
            status=AdapterStatus.BLOCKED,
            reason_code=code,
            reason=reason,
            revision=version.revision + 1,
        )
        await change.put_adapter(blocked)
        await change.announce_adapter(blocked)
        await self._promotions.abandon(change, blocked)
        self._metrics.blocked.labels(reason=code).inc()
        _log.warning("adapter_blocked", adapter=version.name, reason=code)
        return blocked

    async def withhold(self, versions: list[AdapterVersion]) -> None:
        """Have the engine refuse adapters at once. While it is away nothing is served; the event reaches it later."""
        if not versions:
            return
        try:
            await self._serving.withhold([(version.name, version.revision) for version in versions])
        except BrainError as error:
            _log.warning("adapters_withheld_later", count=len(versions), reason=error.message)

    async def _view(self, version: AdapterVersion, *, with_sources: bool) -> AdapterView:
        sources = await self._ledger.sources(version.tenant, version.name) if with_sources else []
        aliases = [
            alias.alias
            for alias in await self._ledger.aliases(version.tenant)
            if version.name in {alias.target, alias.canary}
        ]
        return AdapterView(version, tuple(sources), tuple(aliases))


def _reason(reason: str) -> str:
    if len(reason) > _MAX_REASON_CHARS:
        raise InvalidInput(
            f"reason: {len(reason)} characters are too many; at most {_MAX_REASON_CHARS}.", param="reason"
        )
    return reason.strip()
