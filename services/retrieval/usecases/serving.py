"""The live index with its embedder: always taken together, followed as it moves, whoever moved it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from services.chassis.errors import BrainError, Conflict, NotFound, Unavailable
from services.retrieval.domain import PROBES, IndexMoved, IndexRecord, IndexState
from services.retrieval.ports import Embedder, Embedders, Index, IndexShelf, IndexTable

__all__ = ["LiveIndexes", "Served", "record_of"]

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")

# How often the table is asked in between, so that an index that is announced is open before it is live. Searches and
# writes do not wait for this: each asks for itself.
_FOLLOW_S: Final = 1.0
# An index moves once in months: who finds it moved again and again looks at a fault.
_MAX_MOVES: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """An index, and the embedder whose vectors it holds: query vectors of one never meet rows of another."""

    name: str
    index: Index
    embedder: Embedder


class LiveIndexes:
    """The indexes as this process has them open.

    Args:
        table: Says which there are and which is live.
        shelf: Where they stand.
        embedders: Those that this process was told of.
        first_model: Model of an index that an earlier release made, which noted none.
    """

    def __init__(self, *, table: IndexTable, shelf: IndexShelf, embedders: Embedders, first_model: str) -> None:
        self._table = table
        self._shelf = shelf
        self._embedders = embedders
        self._first_model = first_model
        self._indexes: dict[str, Index] = {}
        self._opening = asyncio.Lock()
        self._live: Served | None = None

    async def start(self) -> None:
        """Open the live index; the first process of an installation notes which it is.

        Raises:
            Conflict: It holds vectors of an embedder that this process was not told of; the message says what to do.
            Unavailable: The database, the index or the embedder is away.
        """
        if _live_of(await self._table.records()) is None:
            embedder = await self._embedders.configured()
            if embedder.model != self._first_model and await self._table.has_documents():
                raise Conflict(
                    f"embedder_url: the index that is there was made with {self._first_model}, not {embedder.model}; "
                    "set embedder_url to minilm:// and next_embedder_url to the new one, start the room, and run "
                    "`python -m services.retrieval reembed`."
                )
            await self._table.enter(await record_of(embedder, self._shelf.first_name, IndexState.LIVE))
        await self.refreshed()

    async def live(self) -> Served:
        """Return the live index as this process knows it; a search finds out by itself where it has moved."""
        return self._live or await self.refreshed()

    async def refreshed(self) -> Served:
        """Return the live index as the table says it at this moment.

        Raises:
            Unavailable: It cannot be opened here: a back end is away, or this process was not told of its embedder.
        """
        record = _live_of(await self._table.records())
        if record is None:
            raise Unavailable("There is no live index.", retry_after_s=1.0)
        known = self._live
        if known is not None and known.name == record.name:
            return known
        async with self._opening:
            if self._live is None or self._live.name != record.name:
                embedder = await self._embedder(record, is_first=self._live is None)
                served = Served(record.name, await self._opened(record, create=True), embedder)
                _log.info(
                    "index_live",
                    index=record.name,
                    model=record.model,
                    dimension=record.dimension,
                    before=None if self._live is None else self._live.name,
                )
                self._live = served
            return self._live

    async def every(self) -> list[Index]:
        """Return all indexes that there are at this moment, for what must reach each of them."""
        records = await self._table.records()
        async with self._opening:
            names = {record.name for record in records}
            for name in [name for name in self._indexes if name not in names]:
                await self._indexes.pop(name).close()
            found = []
            for record in records:
                try:
                    found.append(await self._opened(record, create=record.state is IndexState.LIVE))
                except NotFound:
                    # Removed a moment ago, or by a process that was ended before it could say so: it holds nothing.
                    _log.warning("index_is_gone", index=record.name, state=record.state)
            return found

    async def on_live(self, work: Callable[[Served], Awaitable[_Answer]]) -> _Answer:
        """Return what work on the live index comes to; where that moved meanwhile it is done again on the new one.

        Raises:
            Unavailable: The index moves again and again.
        """
        served = await self.live()
        for _ in range(_MAX_MOVES):
            try:
                return await work(served)
            except IndexMoved:
                served = await self.refreshed()
            except BrainError:
                # An index that was removed meanwhile answers with all kinds of errors.
                if (newer := await self.refreshed()) is served:
                    raise
                served = newer
        raise Unavailable("The index is being exchanged.", retry_after_s=1.0)

    async def leave(self, served: Served) -> None:
        """Take away what was written to an index that had been removed by then.

        Weaviate makes a collection again for who writes to one that is gone.
        """
        if served.name not in {record.name for record in await self._table.records()}:
            _log.warning("late_write_removed", index=served.name)
            await served.index.drop()

    async def follow(self) -> None:
        """Keep what is announced open, until cancelled."""
        while True:
            await asyncio.sleep(_FOLLOW_S)
            try:
                await self.refreshed()
                for record in await self._table.records():
                    if record.state is IndexState.BUILDING:
                        await self._embedder(record, is_first=False)
                        async with self._opening:
                            await self._opened(record, create=False)
            except BrainError as error:
                _log.warning("index_follows_later", reason=error.message, private=error.private)

    async def close(self) -> None:
        """Let go of all indexes."""
        for index in self._indexes.values():
            await index.close()

    async def _embedder(self, record: IndexRecord, *, is_first: bool) -> Embedder:
        try:
            return await self._embedders.of(record)
        except Conflict as error:
            if is_first:
                raise
            # This process goes on, but can neither search nor write before it is told.
            raise Unavailable(
                "The index holds vectors of an embedder that this process was not told of.",
                private=error.message,
                retry_after_s=5.0,
            ) from error

    async def _opened(self, record: IndexRecord, *, create: bool) -> Index:
        if record.name not in self._indexes:
            self._indexes[record.name] = await self._shelf.open(record.name, dimension=record.dimension, create=create)
        return self._indexes[record.name]


async def record_of(embedder: Embedder, name: str, state: IndexState) -> IndexRecord:
    """Return what the table is to say of an index for this embedder, which answers the probes for it."""
    return IndexRecord(
        name=name,
        digest=embedder.digest,
        model=embedder.model,
        dimension=embedder.dimension,
        probes=(await embedder.embed(PROBES, queries=False)).vectors,
        state=state,
        since=time.time(),
    )


def _live_of(records: Sequence[IndexRecord]) -> IndexRecord | None:
    return next((record for record in records if record.state is IndexState.LIVE), None)
