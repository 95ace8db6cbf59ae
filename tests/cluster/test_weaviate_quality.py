"""Search over the cluster's Weaviate finds what search over the embedded index finds, on real documents and judgements."""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from benchmarks.quality import Collection, vaswani
from services.chassis.database import Database, migrate
from services.chassis.events.outbox import OutboxRelay
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.backends.lancedb import LanceIndex
from services.retrieval.backends.onnx_embedder import OnnxEmbedder
from services.retrieval.backends.onnx_worker import OnnxWorker
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.domain import Analyser, ChunkedVersion, Fusion, Locator, Piece, Reader, SearchSpec, indexed_text
from services.retrieval.ports import Embedder, Embedding, Index
from services.retrieval.settings import RetrievalSettings
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import IndexVersions, Search
from tests.cluster_servers import ClusterServers
from tests.live_index import live_indexes
from tests.weaviate_index import opened_weaviate

READER = Reader("acme", ("group:everyone",))
# Of the questions, and of the documents that no judgement of theirs names, one in so many is taken: all would embed for a
# quarter of an hour.
QUESTIONS, OTHERS = 3, 20
ANN_ROWS = 100_000


class Remembering:
    """An embedder that embeds each text once: both indexes hold the very same vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple[bool, str], NDArray[np.float32]] = {}
        self.model, self.dimension, self.digest = embedder.model, embedder.dimension, embedder.digest

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        new = [text for text in dict.fromkeys(texts) if (queries, text) not in self._known]
        if new:
            found = await self._embedder.embed(new, queries=queries)
            self._known.update(((queries, text), vector) for text, vector in zip(new, found.vectors, strict=True))
        return Embedding(np.stack([self._known[queries, text] for text in texts]), 0)


@asynccontextmanager
async def remembering_embedder() -> AsyncIterator[Remembering]:
    worker = OnnxWorker(max_waiting=8_192)
    await worker.start()
    try:
        yield Remembering(OnnxEmbedder(worker))
    finally:
        await worker.stop()


def versions(collection: Collection) -> list[ChunkedVersion]:
    """The collection's documents as the consumer hands them on."""
    return [
        ChunkedVersion(
            tenant=READER.tenant,
            document_id=document.id,
            collection_id=document.collection,
            version=document.version,
            file_id=f"file-{document.id}",
            filename=document.filename,
            title=document.title,
            text_blob_key="",
            chunks_blob_key="",
            attributes={},
            principals=tuple(document.principals),
            access_revision=1,
            pieces=tuple(
                Piece(
                    index=chunk.index,
                    indexed=indexed_text(document.title, chunk.locator.heading_path, chunk.text),
                    text=chunk.text,
                    start=chunk.start,
                    end=chunk.end,
                    locator=Locator(),
                )
                for chunk in document.chunks
            ),
        )
        for document in collection.documents
    ]


async def quality(collection: Collection, index: Index, embedder: Embedder, folder: Path) -> float:
    """Index the collection and return the mean worth of the answers at default settings."""
    database, log = Database(f"sqlite:///{folder}/room.db"), SqliteEventLog("")
    await migrate(database, "services.retrieval.migrations")
    register = SqlRegister(database, relay=OutboxRelay(database=database, table=outbox, log=log))
    metrics, analyser, settings = Metrics(CollectorRegistry()), Analyser(), RetrievalSettings()
    indexes = await live_indexes(database, index, embedder)
    indexing = IndexVersions(
        indexes=indexes,
        register=register,
        analyser=analyser,
        metrics=metrics,
        batch_chunks=settings.index_batch_chunks,
    )
    search = Search(
        indexes=indexes,
        register=register,
        analyser=analyser,
        rerankers={},
        metrics=metrics,
        candidates=settings.candidates,
        rerank_candidates=settings.rerank_candidates,
    )
    free = asyncio.Semaphore(4)

    async def worth(name: str, text: str) -> float:
        spec = SearchSpec(
            queries=(text,),
            collection_ids=(f"vs_{collection.name}",),
            top_k=collection.top_k,
            alpha=settings.alpha,
            fusion=Fusion(settings.fusion),
            ranker=settings.ranker,
        )
        async with free:
            found = await search.run(READER, spec)
        return collection.judge(name, list(dict.fromkeys(part for one in found for part in collection.names(one))))

    try:
        await indexing.run(versions(collection))
        each = await asyncio.gather(*(worth(name, text) for name, text in collection.questions.items()))
    finally:
        await log.close()
        await database.close()
    return sum(each) / len(each)


async def both(collection: Collection, cluster: ClusterServers, folder: Path) -> tuple[float, float]:
    """Return the quality over the embedded index and over Weaviate."""
    found = []
    async with remembering_embedder() as embedder:
        near = folder / "near"
        near.mkdir()
        embedded = LanceIndex(str(near / "index"), dimension=embedder.dimension, ann_rows=ANN_ROWS)
        await embedded.open()
        try:
            found.append(await quality(collection, embedded, embedder, near))
        finally:
            await embedded.close()
        far = folder / "far"
        far.mkdir()
        async with opened_weaviate(cluster, dimension=embedder.dimension, ann_rows=ANN_ROWS) as shared:
            found.append(await quality(collection, shared, embedder, far))
    return found[0], found[1]


def judged(shared_data: Path, questions: Container[str]) -> set[str]:
    """Documents that a judgement of these questions names."""
    lines = [line.split() for line in (shared_data / "vaswani" / "qrels").read_text().splitlines()]
    return {f"vaswani_{document}" for question, _, document, _ in lines if question in questions}


@pytest.mark.cluster
@pytest.mark.timeout(600)
async def test_the_two_indexes_find_alike(shared_data: Path, cluster: ClusterServers, tmp_path: Path) -> None:
    collection = vaswani()
    collection.questions = dict(list(collection.questions.items())[::QUESTIONS])
    named = judged(shared_data, collection.questions)
    others = [document for document in collection.documents if document.id not in named]
    collection.documents = [document for document in collection.documents if document.id in named] + others[::OTHERS]
    near, far = await both(collection, cluster, tmp_path)
    assert near > 0.4
    assert far == pytest.approx(near, abs=0.01)
