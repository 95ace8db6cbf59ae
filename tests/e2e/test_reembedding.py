"""Changing the embedder while the room serves: real processes, a second embedder behind a real HTTP endpoint."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from brain.events.v1 import document_pb2
from brain.retrieval.v1 import embedding_pb2
from services.chassis.database import Database
from services.chassis.errors import NotFound
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.bootstrap.shelves import open_shelf
from services.retrieval.domain import IndexRecord, IndexState
from services.retrieval.ports import Index
from services.retrieval.settings import RetrievalSettings
from tests.cluster_servers import ClusterServers
from tests.embedding_endpoint import EmbeddingServer, embedding_server, projected_minilm
from tests.fresh_databases import fresh_schema
from tests.retrieval_room import ROOT, RetrievalRoom, document
from tests.weaviate_index import new_collection

DIMENSION = 192
ITEMS = 24


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EmbeddingServer]:
    with projected_minilm(DIMENSION) as vectors, embedding_server(vectors) as server:
        yield server


# Both take minutes, and run with the tests of the cluster.
@pytest.fixture(params=[pytest.param(which, marks=pytest.mark.cluster) for which in ("embedded", "cluster")])
def back_ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where tables and indexes stand: on this machine, and in a cluster."""
    if request.param == "embedded":
        yield {}
        return
    cluster: ClusterServers = request.getfixturevalue("cluster")
    key, collection = tmp_path / "key", new_collection()
    key.write_text(cluster.weaviate_key)
    with fresh_schema(cluster.postgres) as url:
        yield {
            "DATABASE_URL": url,
            "INDEX_URL": f"weaviate://{urlsplit(cluster.weaviate_http).netloc}?grpc={cluster.weaviate_grpc}",
            "INDEX_KEY_FILE": str(key),
            "INDEX_COLLECTION": collection,
        }


class Reembedding:
    """One run of the command."""

    def __init__(self, room: RetrievalRoom, *arguments: str) -> None:
        self.out = room.state_dir / f"reembed-{len(list(room.state_dir.glob('reembed-*')))}.out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.retrieval", "reembed", *arguments],
                cwd=ROOT,
                env=room.environment,
                stdout=out,
                stderr=out,
            )

    @property
    def said(self) -> str:
        return self.out.read_text()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 300)


@asynccontextmanager
async def asked_all_the_time(*rooms: RetrievalRoom) -> AsyncIterator[list[str]]:
    """Search in every room until the block ends; yield what was wrong with answers."""
    wrong: list[str] = []
    done = asyncio.Event()

    async def ask(room: RetrievalRoom) -> None:
        number = 0
        while not done.is_set():
            # As somebody who asks often, not as a load: the processes that are watched need the cores.
            await asyncio.sleep(0.1)
            number = (number + 1) % ITEMS
            try:
                found = await room.search(f"The price of item {number}", top_k=5)
            except grpc.aio.AioRpcError as error:
                wrong.append(f"{error.code()} {error.details()}")
                continue
            own = [passage.text for passage in found if passage.document_id == f"item_{number}"]
            if own != [f"The price of item {number} is {number + 10} euro."] or len(found) != 5:
                wrong.append(f"item {number}: {[(one.document_id, one.version) for one in found]}")

    asking = [asyncio.create_task(ask(room)) for room in rooms]
    try:
        yield wrong
    finally:
        done.set()
        await asyncio.gather(*asking)


async def embedded_by(room: RetrievalRoom) -> tuple[str, int]:
    answer = await room.embedding_stub.Embed(embedding_pb2.EmbedRequest(texts=["soup"]), **room.as_())
    return answer.model, answer.dimension


async def opened(environment: Mapping[str, str], name: str, dimension: int) -> Index:
    prefix = "BRAIN_RETRIEVAL_INDEX_"
    said: dict[str, Any] = {
        f"index_{key.removeprefix(prefix).lower()}": value
        for key, value in environment.items()
        if key.startswith(prefix)
    }
    return await open_shelf(RetrievalSettings(**said)).open(name, dimension=dimension, create=False)


async def told(room: RetrievalRoom, name: str, **fact: Any) -> None:
    await room.tell(document_pb2.DocumentEvent(**fact), key=name)


async def changed_meanwhile(room: RetrievalRoom) -> None:
    """One document comes, one gets a new version, one goes, one is read by fewer, one gets other attributes."""
    await room.add(
        document("late", "The price of a latecomer is 99 euro."),
        document("updated", "The updated handbook asks for two signatures.", version=2),
    )
    await told(room, "gone", deleted=document_pb2.DocumentDeleted(document_id="gone"))
    await told(
        room,
        "narrowed",
        access_changed=document_pb2.DocumentAccessChanged(
            document_id="narrowed", collection_id="vs_1", principals=["user:bob"], access_revision=2
        ),
    )
    await room.blobs.put("attributes/labelled.json", b'{"team": "hr"}')
    await told(
        room,
        "labelled",
        attributes_changed=document_pb2.DocumentAttributesChanged(
            document_id="labelled", attributes_blob_key="attributes/labelled.json", attributes_revision=1
        ),
    )
    gone = (await room.told("document_removed", {("gone", 0)}))[("gone", 0)]
    assert (gone.removed_count, gone.remaining_count) == (1, 0)
    await room.idle()


async def is_as_it_should_be(room: RetrievalRoom) -> None:
    def ids(found: list[Any]) -> list[str]:
        return [passage.document_id for passage in found]

    assert ids(await room.search("price of a latecomer", top_k=1)) == ["late"]
    (first, *_) = await room.search("how many signatures does the handbook ask for", top_k=1)
    assert (first.document_id, first.version) == ("updated", 2)
    assert "gone" not in ids(await room.search("secret of the lost recipe", top_k=50))
    assert "narrowed" not in ids(await room.search("the merger is narrowed down", top_k=50))
    bob = room.as_("bob", groups=["everyone"])
    assert ids(await room.search("the merger is narrowed down", top_k=1, who=bob)) == ["narrowed"]
    hr = '{"type":"eq","key":"team","value":"hr"}'
    assert ids(await room.search("a labelled paper", filter_json=hr)) == ["labelled"]


@asynccontextmanager
async def running(
    folder: Path, back_ends: Mapping[str, str], roles: tuple[str, ...]
) -> AsyncIterator[list[RetrievalRoom]]:
    """Run processes of one room, each with a folder of its own, on the same tables, log, blobs and indexes."""
    shared = {
        "DATABASE_URL": f"sqlite:///{folder}/room.db",
        "BLOBS_URL": f"file://{folder}/blobs",
        "EVENTS_URL": f"sqlite:///{folder}/events.db",
        "INDEX_URL": f"lancedb://{folder}/index",
    }
    rooms = [
        RetrievalRoom(folder / f"{role}{at}", role=role, settings=shared | dict(back_ends))
        for at, role in enumerate(roles)
    ]
    try:
        for one in rooms:
            await one.start()
        yield rooms
    finally:
        for one in rooms:
            await one.stop()
            await one.log.close()


@pytest.mark.timeout(560)
async def test_the_embedder_is_changed_while_the_room_serves(
    back_ends: dict[str, str], endpoint: EmbeddingServer, tmp_path: Path
) -> None:
    told_of = back_ends | {
        "NEXT_EMBEDDER_URL": endpoint.url(),
        "NEXT_EMBEDDER_BATCH": "2",
        # Small batches, so that it is killed between two.
        "INDEX_BATCH_CHUNKS": "4",
    }
    roles = ("index", "serve", "serve") if back_ends else ("index", "serve")
    async with running(tmp_path, told_of, roles) as (room, *serving):
        await room.add(
            *(document(f"item_{at}", f"The price of item {at} is {at + 10} euro.") for at in range(ITEMS)),
            document("updated", "The handbook asks for one signature."),
            document("gone", "The secret of the lost recipe."),
            document("narrowed", "The merger is narrowed down."),
            document("labelled", "A labelled paper.", attributes={"team": "it"}),
        )
        endpoint.delay_s = 0.3
        async with asked_all_the_time(*serving) as wrong:
            first = Reembedding(room)
            before = endpoint.texts
            while endpoint.texts < before + 16:
                assert first.process.poll() is None, first.said
                await asyncio.sleep(0.05)
            first.process.send_signal(signal.SIGKILL)
            await first.ended()
            for one in serving:
                assert await embedded_by(one) == ("all-MiniLM-L6-v2-onnx-int8", 384)
            await changed_meanwhile(room)
            both = [Reembedding(room), Reembedding(room)]
            assert sorted([await one.ended() for one in both]) == [0, 1], [one.said for one in both]
            # The other one found it held, or, where it started late, done.
            (refused,) = [one.said for one in both if one.process.returncode]
            assert re.search(r"Another process builds|holds this embedder's vectors already|is still kept", refused), (
                refused
            )
            for one in serving:
                assert await embedded_by(one) == ("projected", DIMENSION)
        assert wrong == []
        endpoint.delay_s = 0.0
        for one in serving:
            await is_as_it_should_be(one)
        await everything_stands_once(room)
        assert await Reembedding(room, "--drop-old").ended() == 0
        with pytest.raises(NotFound):
            await opened(room.environment, first_name(room), 384)
        await room.add(document("after", "The price of an afterthought is 7 euro."))
        for one in serving:
            assert (await one.search("price of an afterthought", top_k=1))[0].document_id == "after"
        await a_room_that_knows_only_the_old_embedder_does_not_start(serving[-1])
    await forget(room, back_ends)


def first_name(room: RetrievalRoom) -> str:
    return room.environment.get("BRAIN_RETRIEVAL_INDEX_COLLECTION", "chunks")


async def live_index(room: RetrievalRoom) -> IndexRecord:
    database = Database(room.environment["BRAIN_RETRIEVAL_DATABASE_URL"])
    try:
        return next(one for one in await SqlIndexTable(database).records() if one.state is IndexState.LIVE)
    finally:
        await database.close()


async def everything_stands_once(room: RetrievalRoom) -> None:
    """Count behind the search: the live index holds each document once, and neither holds the one that is gone."""
    live = await live_index(room)
    assert (live.model, live.dimension) == ("projected", DIMENSION)
    assert live.name.startswith(f"{first_name(room)}_")
    places = [f"item_{at}" for at in range(ITEMS)] + ["updated", "gone", "narrowed", "labelled", "late"]
    expected = {(name, 2 if name == "updated" else 1): 1 for name in places if name != "gone"}
    for name, dimension in ((live.name, live.dimension), (first_name(room), 384)):
        index = await opened(room.environment, name, dimension)
        assert await index.counts(room.tenant, places) == expected
        await index.close()


async def a_room_that_knows_only_the_old_embedder_does_not_start(room: RetrievalRoom) -> None:
    await room.stop()
    url = room.environment["BRAIN_RETRIEVAL_NEXT_EMBEDDER_URL"]
    room.tell_settings({"NEXT_EMBEDDER_URL": ""})
    with pytest.raises(RuntimeError, match=r"holds vectors of projected .* Set embedder_url back"):
        await room.start()
    # Told of it in the other place, it starts.
    room.tell_settings({"EMBEDDER_URL": url, "EMBEDDER_BATCH": "2"})
    await room.start()
    assert (await room.search("price of an afterthought", top_k=1))[0].document_id == "after"


async def forget(room: RetrievalRoom, back_ends: Mapping[str, str]) -> None:
    """Remove the collection that the shared server would keep."""
    if back_ends:
        index = await opened(room.environment, (await live_index(room)).name, DIMENSION)
        await index.drop()
        await index.close()
