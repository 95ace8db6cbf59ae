"""Indexes that are not live: one process at a time builds one, and what is no longer wanted is removed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from services.chassis.errors import Conflict, NotFound, Unavailable
from services.retrieval.domain import IndexRecord, IndexState
from services.retrieval.ports import IndexShelf, IndexTable

__all__ = ["RemoveIndex", "held_by"]

_log = structlog.get_logger()

# Who builds says so anew four times within this time; who does not is taken for gone.
_LEASE_S: Final = 10.0
# Between two looks whether an earlier builder has let go.
_PAUSE_S: Final = 1.0


class RemoveIndex:
    """Removes an index that is not live, with everything in it.

    Args:
        table: Says which there are.
        shelf: Where they stand.
        holder: Name of this process, which no other has.
    """

    def __init__(self, *, table: IndexTable, shelf: IndexShelf, holder: str) -> None:
        self._table = table
        self._shelf = shelf
        self._holder = holder

    async def run(self, state: IndexState) -> IndexRecord:
        """Remove the index that is being built, or the old one; return which it was.

        Raises:
            NotFound: There is none.
            Conflict: It is being built at this moment.
            Unavailable: A back end is away; do it again.
        """
        record = next((one for one in await self._table.records() if one.state is state), None)
        if record is None or state is IndexState.LIVE:
            raise NotFound(f"There is no {state} index.")
        if state is IndexState.BUILDING:
            async with held_by(self._table, record, self._holder):
                await self._remove(record)
        else:
            await self._remove(record)
        return record

    async def _remove(self, record: IndexRecord) -> None:
        try:
            index = await self._shelf.open(record.name, dimension=record.dimension, create=False)
        except NotFound:
            _log.warning("index_is_gone", index=record.name)
        else:
            try:
                await index.drop()
            finally:
                await index.close()
        # Last: whoever is ended before this leaves a name that leads nowhere, and no text that nobody knows of.
        await self._table.forget(record.name)
        _log.info("index_removed", index=record.name, state=record.state)


@asynccontextmanager
async def held_by(table: IndexTable, record: IndexRecord, holder: str) -> AsyncIterator[None]:
    """Hold an index that is being built; one whose builder fell silent is taken over.

    Raises:
        Conflict: Its builder goes on.
    """
    # A builder that was killed is waited for; one that is alive renews its lease within this time.
    deadline = asyncio.get_running_loop().time() + 1.5 * _LEASE_S
    while not await table.build(record, holder=holder, lease_s=_LEASE_S):
        if asyncio.get_running_loop().time() > deadline:
            raise Conflict(f"Another process builds index {record.name} at this moment.")
        _log.info("reembedding_waits_for_another", index=record.name)
        await asyncio.sleep(_PAUSE_S)
    done = asyncio.Event()
    renewing = asyncio.create_task(_renewed(table, record.name, holder, done))
    try:
        yield
    finally:
        done.set()
        with suppress(Conflict):
            await renewing
        # Gone where it was switched or removed.
        with suppress(Conflict, Unavailable):
            await table.renew(record.name, holder=holder, lease_s=0.0)


async def _renewed(table: IndexTable, name: str, holder: str, done: asyncio.Event) -> None:
    """Renew the lease until `done`; one that is lost is found out by whatever is to be written next."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _LEASE_S / 4)
            return
        try:
            await table.renew(name, holder=holder, lease_s=_LEASE_S)
        except Unavailable as error:
            _log.warning("lease_not_renewed", index=name, reason=error.message)
