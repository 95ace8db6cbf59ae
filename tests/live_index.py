"""The live index of a room's table, for tests that put a room together by hand."""

import numpy as np

from services.chassis.database import Database
from services.chassis.errors import NotFound
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.domain import IndexRecord, IndexState
from services.retrieval.ports import Embedder, Index
from services.retrieval.usecases import LiveIndexes


async def enter_live_index(database: Database, name: str) -> None:
    """Note an index as the live one."""
    probes = np.eye(4, dtype=np.float32)
    await SqlIndexTable(database).enter(IndexRecord(name, "digest", "model", 4, probes, IndexState.LIVE, 0.0))


class OneEmbedder:
    """An embedder as the only one that a process was told of."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def configured(self) -> Embedder:
        return self._embedder

    async def of(self, record: IndexRecord) -> Embedder:
        assert record.digest == self._embedder.digest
        return self._embedder


class OneIndex:
    """A shelf with an index that is open already, under the name of a first one."""

    first_name = "chunks"

    def __init__(self, index: Index) -> None:
        self._index = index

    def name_of(self, digest: str) -> str:
        return f"{self.first_name}_{digest}"

    async def open(self, name: str, *, dimension: int, create: bool) -> Index:
        if name != self.first_name:
            raise NotFound(name)
        return self._index


async def live_indexes(database: Database, index: Index, embedder: Embedder) -> LiveIndexes:
    """Return an index and its embedder as a room of one of each has them."""
    indexes = LiveIndexes(
        table=SqlIndexTable(database),
        shelf=OneIndex(index),
        embedders=OneEmbedder(embedder),
        first_model=embedder.model,
    )
    await indexes.start()
    return indexes
