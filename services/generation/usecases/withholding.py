"""Refuses adapters before the event that blocks or deletes them arrives."""

from collections.abc import Mapping
from typing import Final

import structlog

from services.chassis.errors import InvalidInput
from services.generation.domain import MAX_REVISION
from services.generation.ports import WithheldTable
from services.generation.usecases.registry import Registry

__all__ = ["WithholdAdapters"]

_log = structlog.get_logger()
MAX_ADAPTERS: Final = 10_000


class WithholdAdapters:
    """Withholds adapters of one tenant, known here or not yet; remembered over a restart.

    Args:
        registry: What is known.
        table: Remembers them.
    """

    def __init__(self, *, registry: Registry, table: WithheldTable) -> None:
        self._registry = registry
        self._table = table

    async def __call__(self, tenant: str, revisions: Mapping[str, int]) -> None:
        """Refuse adapters, by name, until their state has a higher revision than given.

        Raises:
            InvalidInput: There are too many, a name is empty, or a revision is out of range.
            Unavailable: The database is away; they are refused all the same until a restart.
        """
        if len(revisions) > MAX_ADAPTERS:
            raise InvalidInput(f"adapters: {len(revisions)} are more than {MAX_ADAPTERS}.", param="adapters")
        for name, revision in revisions.items():
            if not name or len(name) > 256:
                raise InvalidInput(
                    f"adapters.name: {name[:80]!r} is not allowed; use 1 to 256 characters.", param="adapters.name"
                )
            if not 0 <= revision <= MAX_REVISION:
                raise InvalidInput(
                    f"adapters.revision: {revision} is not allowed; use 0 to {MAX_REVISION}.", param="adapters.revision"
                )
        # In memory first: from here on nothing of them is said.
        for name, revision in revisions.items():
            self._registry.withhold(tenant, name, revision)
        await self._table.add(tenant, revisions)
        _log.info("adapters_withheld", tenant=tenant, count=len(revisions))

    async def restore(self) -> None:
        """Withhold again what was withheld before the restart."""
        for (tenant, name), revision in (await self._table.all()).items():
            self._registry.withhold(tenant, name, revision)
