"""A room's verbs around one folder, one table and embedders of words, as tests of re-embedding put them together."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from services.chassis.database import Database
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.events.outbox import OutboxRelay
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.bootstrap.shelves import LanceShelf
from services.retrieval.domain import (
    Analyser,
    ChunkContent,
    ChunkedVersion,
    Fusion,
    IndexRecord,
    Locator,
    Passage,
    Piece,
    Reader,
    SearchSpec,
)
from services.retrieval.ports import Embedder, Embedding
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import (
    ChangeAccess,
    ChangeAttributes,
    IndexVersions,
    LiveIndexes,
    Progress,
    Reembed,
    RemoveDocument,
    RemoveIndex,
    Search,
)

ANN = Reader("acme", ("user:ann", "group:everyone"))


class Bag:
    """An embedder of bags of words: each word has a direction, drawn from its name and the embedder's."""

    def __init__(self, model: str, dimension: int) -> None:
        self.model, self.dimension = model, dimension
        self.digest = hashlib.sha256(f"{model} {dimension}".encode()).hexdigest()
        self.embedded: list[str] = []
        self.before: Callable[[Sequence[str]], Any] | None = None

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        if self.before is not None and (waiting := self.before(texts)) is not None:
            await waiting
        self.embedded += texts
        vectors = np.stack([sum(map(self._word, text.lower().split())) for text in texts]).astype(np.float32)
        return Embedding(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 0)

    def _word(self, word: str) -> Any:
        seed = hashlib.sha256(f"{self.model} {word.strip('.?')}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(seed, "big")).normal(size=self.dimension)


class Told:
    """The embedders that a process was told of."""

    def __init__(self, *embedders: Embedder) -> None:
        self._embedders = embedders

    async def configured(self) -> Embedder:
        return self._embedders[0]

    async def of(self, record: IndexRecord) -> Embedder:
        for one in self._embedders:
            if one.digest == record.digest:
                return one
        raise Conflict(f"embedder_url: set it to {record.model}.")


class Chunks:
    """Chunk sets by key."""

    def __init__(self) -> None:
        self.kept: dict[str, ChunkContent] = {}

    async def read(self, key: str, *, text_key: str) -> ChunkContent:
        if key not in self.kept:
            raise InvalidInput("The chunks are not there.")
        return self.kept[key]


class Room:
    """A room's process around one folder and one table."""

    def __init__(self, folder: Path, url: str, log: SqliteEventLog, chunks: Chunks, *embedders: Embedder) -> None:
        self.database = Database(url)
        self.table = SqlIndexTable(self.database)
        self.shelf = LanceShelf(str(folder / "index"), ann_rows=100_000)
        self.metrics, self.analyser = Metrics(CollectorRegistry()), Analyser()
        self.chunks = chunks
        self.indexes = LiveIndexes(
            table=self.table, shelf=self.shelf, embedders=Told(*embedders), first_model=embedders[0].model
        )
        relay = OutboxRelay(database=self.database, table=outbox, log=log)
        self.register = SqlRegister(self.database, relay=relay)
        self.write = IndexVersions(
            indexes=self.indexes,
            register=self.register,
            analyser=self.analyser,
            metrics=self.metrics,
            batch_chunks=3,
        )
        self.remove = RemoveDocument(indexes=self.indexes, table=self.table, register=self.register)
        self.change_access = ChangeAccess(indexes=self.indexes, register=self.register)
        self.change_attributes = ChangeAttributes(indexes=self.indexes, register=self.register)
        self.search = Search(
            indexes=self.indexes,
            register=self.register,
            analyser=self.analyser,
            rerankers={},
            metrics=self.metrics,
            candidates=20,
            rerank_candidates=20,
        )

    async def add(self, document: str, *texts: str, number: int = 1) -> None:
        made = version(document, *texts, number=number)
        self.chunks.kept[made.chunks_blob_key] = ChunkContent(made.filename, made.title, made.attributes, made.pieces)
        await self.write.run([made])

    async def find(self, query: str, reader: Reader = ANN) -> list[Passage]:
        spec = SearchSpec((query,), ("vs_1",), 5, 1.0, Fusion.RELATIVE_SCORE, "none")
        return await self.search.run(reader, spec)

    def reembed(self, embedder: Embedder, holder: str = "builder") -> Reembed:
        self.reports: list[Progress] = []
        return Reembed(
            table=self.table,
            shelf=self.shelf,
            embedder=embedder,
            chunks=self.chunks,
            analyser=self.analyser,
            metrics=self.metrics,
            holder=holder,
            batch_chunks=3,
            report=self.reports.append,
        )

    def removing(self, holder: str = "remover") -> RemoveIndex:
        return RemoveIndex(table=self.table, shelf=self.shelf, holder=holder)

    async def counts(self, embedder: Embedder, *documents: str, first: bool = False) -> dict[tuple[str, int], int]:
        name = self.shelf.first_name if first else self.shelf.name_of(embedder.digest)
        index = await self.shelf.open(name, dimension=embedder.dimension, create=False)
        try:
            return await index.counts("acme", documents)
        finally:
            await index.close()

    async def close(self) -> None:
        await self.indexes.close()
        await self.database.close()


def version(document: str, *texts: str, number: int = 1) -> ChunkedVersion:
    return ChunkedVersion(
        tenant="acme",
        document_id=document,
        collection_id="vs_1",
        version=number,
        file_id="file-1",
        filename=f"{document}.md",
        title="",
        text_blob_key="",
        chunks_blob_key=f"acme/chunks/{document}/{number}.pb",
        attributes={"team": "it"},
        principals=("group:everyone",),
        access_revision=1,
        # A passage wider than what is embedded, as ingestion makes them of large chunks.
        pieces=tuple(Piece(at, text, f"<{text}>", at, at + len(text), Locator()) for at, text in enumerate(texts)),
    )
