"""From a version that was cut to the search that finds it, on the embedded back ends in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.chassis.database import Database, migrate
from services.chassis.errors import InvalidInput
from services.chassis.events.outbox import OutboxRelay
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.backends.lancedb import LanceIndex
from services.retrieval.backends.onnx_embedder import OnnxEmbedder
from services.retrieval.backends.onnx_worker import OnnxWorker
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.domain import Analyser, ChunkedVersion, Fusion, Locator, Passage, Piece, Reader, SearchSpec
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import IndexVersions, LiveIndexes, RemoveDocument, Search, WithholdDocument
from tests.live_index import live_indexes

ANN = Reader("acme", ("user:ann", "group:everyone"))


class Room:
    """The verbs of a room around one index and one table."""

    def __init__(self, index: LanceIndex, indexes: LiveIndexes, register: SqlRegister, table: SqlIndexTable) -> None:
        metrics, analyser = Metrics(CollectorRegistry()), Analyser()
        self.index = index
        self.write = IndexVersions(
            indexes=indexes,
            register=register,
            analyser=analyser,
            metrics=metrics,
            # Less than a document has: a version is written in several commits.
            batch_chunks=2,
        )
        self.remove = RemoveDocument(indexes=indexes, table=table, register=register)
        self.withhold = WithholdDocument(register=register, indexes=indexes)
        self.search = Search(
            indexes=indexes,
            register=register,
            analyser=analyser,
            rerankers={},
            metrics=metrics,
            candidates=20,
            rerank_candidates=20,
        )

    async def find(self, query: str, **about: object) -> list[Passage]:
        given: dict[str, object] = {
            "queries": (query,),
            "collection_ids": ("vs_1",),
            "top_k": 5,
            "alpha": 0.5,
            "fusion": Fusion.RELATIVE_SCORE,
            "ranker": "none",
        }
        return await self.search.run(ANN, SearchSpec(**(given | about)))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def room(tmp_path: Path, database_url: str) -> AsyncIterator[Room]:
    database = Database(database_url)
    log, worker = SqliteEventLog(""), OnnxWorker(max_waiting=100)
    await migrate(database, "services.retrieval.migrations")
    await worker.start()
    index = LanceIndex(str(tmp_path / "index"), dimension=OnnxEmbedder(worker).dimension, ann_rows=100_000)
    await index.open()
    indexes = await live_indexes(database, index, OnnxEmbedder(worker))
    register = SqlRegister(database, relay=OutboxRelay(database=database, table=outbox, log=log))
    yield Room(index, indexes, register, SqlIndexTable(database))
    await index.close()
    await worker.stop()
    await log.close()
    await database.close()


def version(document: str, *texts: str, number: int = 1, spans: tuple[tuple[int, int], ...] = ()) -> ChunkedVersion:
    places = spans or tuple((100 * at, 100 * at + len(text)) for at, text in enumerate(texts))
    return ChunkedVersion(
        tenant="acme",
        document_id=document,
        collection_id="vs_1",
        version=number,
        file_id="file-1",
        filename=f"{document}.md",
        title="",
        text_blob_key=f"acme/text/{document}/{number}.txt",
        chunks_blob_key=f"acme/chunks/{document}/{number}.pb",
        attributes={},
        principals=("group:everyone",),
        access_revision=1,
        pieces=tuple(
            Piece(at, text, text, start, end, Locator())
            for at, (text, (start, end)) in enumerate(zip(texts, places, strict=True))
        ),
    )


LEAVE = ("Paid leave is 25 days a year.", "Leave is asked for in the portal.", "Parental leave is 22 weeks.")


async def test_a_version_is_found_once_however_often_its_fact_arrives(room: Room) -> None:
    for _ in range(2):
        await room.write.run([version("leave", *LEAVE), version("canteen", "Lunch costs six euros.")])
    found = await room.find("How many days of paid leave are there?")
    assert found[0].text == LEAVE[0]
    assert len({passage.chunk_id for passage in found}) == len(found)
    assert await room.index.counts("acme", ["leave", "canteen"]) == {("leave", 1): 3, ("canteen", 1): 1}


async def test_a_new_version_replaces_the_old_one_and_a_late_old_one_changes_nothing(room: Room) -> None:
    await room.write.run([version("leave", *LEAVE)])
    await room.write.run([version("leave", "Paid leave is 30 days a year.", number=3)])
    await room.write.run([version("leave", "Paid leave is 28 days a year.", number=2)])
    assert [passage.text for passage in await room.find("days of paid leave")] == ["Paid leave is 30 days a year."]
    assert await room.index.counts("acme", ["leave"]) == {("leave", 3): 1}


async def test_a_document_that_was_withheld_before_it_is_indexed_is_never_found(room: Room) -> None:
    assert await room.withhold.run("acme", "leave") == 0
    await room.write.run([version("leave", *LEAVE)])
    assert await room.find("days of paid leave") == []
    await room.remove.run("acme", "leave")
    await room.write.run([version("leave", *LEAVE, number=2)])
    assert await room.index.counts("acme", ["leave"]) == {}


async def test_windows_of_one_passage_are_one_passage(room: Room) -> None:
    await room.write.run([version("leave", *LEAVE[:2], spans=((0, 80), (0, 80)))])
    found = await room.find("paid leave in the portal")
    assert [(passage.start, passage.end) for passage in found] == [(0, 80)]


async def test_the_threshold_cuts_and_the_number_wanted_is_the_most(room: Room) -> None:
    await room.write.run([version("leave", *LEAVE), version("canteen", "Lunch costs six euros.")])
    everything = await room.find("paid leave")
    scores = [passage.score for passage in everything]
    assert scores == sorted(scores, reverse=True)
    assert len(await room.find("paid leave", top_k=1)) == 1
    assert [passage.score for passage in await room.find("paid leave", score_threshold=scores[1])] == scores[:2]
    with pytest.raises(InvalidInput, match="'oracle' is not one of none") as caught:
        await room.find("paid leave", ranker="oracle")
    assert caught.value.param == "ranker"
