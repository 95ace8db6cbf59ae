"""The chunks of an installation go to a file and come back, from every index to every index."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import insert, select, update

from brain.events.v1.index_pb2 import IndexEvent
from services.chassis.database import Database, Migrations
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.moving.part import Arrival, RoomPart
from services.retrieval.backends import tables
from services.retrieval.backends.lancedb import LanceIndex
from services.retrieval.backends.moving import IndexBaggage, settle
from services.retrieval.domain import ChunkRow, IndexRecord, IndexState, Locator, attribute_terms, chunk_id
from services.retrieval.ports import Index
from tests.weaviate_index import opened_weaviate

DIMENSION = 8
BACKENDS = ("lancedb", pytest.param("weaviate", marks=pytest.mark.cluster))
NOW = Arrival(since=0.0)


class Room:
    """A retrieval room's stores."""

    def __init__(self, url: str, index: Index, *, embedder: str = "one", seed: int = 7) -> None:
        self.url, self.index, self.embedder, self.seed = url, index, embedder, seed

    @property
    def part(self) -> RoomPart:
        async def baggage() -> IndexBaggage:
            database = Database(self.url)
            # The index stays open: the test looks into it.
            return IndexBaggage(database, self.index, self.record, closing=database.close)

        return RoomPart(
            "retrieval",
            self.url,
            "services.retrieval.migrations",
            access=None,
            left_out=frozenset({tables.indexes.name, tables.index_documents.name}),
            settle=partial(settle, first_index="first"),
            baggage=baggage,
        )

    @property
    def record(self) -> IndexRecord:
        probes = np.random.default_rng(self.seed).normal(size=(4, DIMENSION)).astype(np.float32)
        probes /= np.linalg.norm(probes, axis=1, keepdims=True)
        return IndexRecord("its own", self.embedder, "the model", DIMENSION, probes, IndexState.LIVE, 0.0)

    async def rows(self, table: Any) -> list[Any]:
        database = Database(self.url)
        async with database.connect() as connection:
            found = (await connection.execute(select(table))).all()
        await database.close()
        return list(found)

    async def told(self) -> list[tuple[str, str, str]]:
        events = [(row.tenant, IndexEvent.FromString(row.payload)) for row in await self.rows(tables.outbox)]
        return [
            (tenant, kind := str(event.WhichOneof("fact")), getattr(event, kind).document_id)
            for tenant, event in events
        ]

    async def chunks(self, tenant: str) -> dict[str, str]:
        held = [one async for batch in self.index.scan(tenant) for one in batch]
        return {one.chunk_id: repr(replace(one, vector=np.round(one.vector, 5))) for one in held}


@asynccontextmanager
async def opened(kind: str, folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Index]:
    if kind == "weaviate":
        async with opened_weaviate(request.getfixturevalue("cluster"), dimension=DIMENSION) as shared:
            yield shared
        return
    index = LanceIndex(str(folder), dimension=DIMENSION, ann_rows=1_000)
    await index.open()
    yield index
    await index.close()


@pytest_asyncio.fixture(params=BACKENDS)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Room]:
    async with opened(request.param, tmp_path / "index", request) as index:
        yield Room(f"sqlite:///{tmp_path}/source.db", index)


@pytest_asyncio.fixture(params=BACKENDS)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Room]:
    async with opened(request.param, tmp_path / "other", request) as index:
        yield Room(f"sqlite:///{tmp_path}/target.db", index)


def chunk(document: str, at: int, *, tenant: str = "acme", version: int = 1) -> ChunkRow:
    near = np.random.default_rng(at).normal(size=DIMENSION).astype(np.float32)
    return ChunkRow(
        chunk_id=chunk_id(tenant, document, version, at),
        tenant=tenant,
        collection_id="vs_1",
        document_id=document,
        version=version,
        live=True,
        principals=("group:everyone",),
        access_revision=1,
        attribute_terms=attribute_terms({"team": "it"}),
        text=f"text {at} of {document}",
        start=at,
        end=at + 9,
        locator=Locator(1, 2, ("One",), "Sheet"),
        search_text=f"text {document}",
        vector=near / np.linalg.norm(near),
    )


async def filled(room: Room) -> None:
    """Two tenants; one document has a chunk of an older version left, one is removed, one is withheld and restricted."""
    database = Database(room.url)
    part = room.part
    # Made by its own history, as at a start.
    async with database.migrating() as connection:
        await connection.run_sync(Migrations(part.migrations).upgrade)
    known: dict[tuple[str, str], dict[str, Any]] = {
        ("acme", "a"): {"active_version": 2},
        ("acme", "b"): {"withheld": True, "principals": ["user:eve"], "access_revision": 4},
        ("acme", "gone"): {"removed": True, "removal_announced": True, "removed_count": 7, "active_version": 0},
        ("Globex & Co", "a"): {"attributes": {"team": "hr"}},
    }
    async with database.begin() as connection:
        for (tenant, document), about in known.items():
            row = {"tenant": tenant, "document_id": document, "collection_id": "vs_1", "active_version": 1}
            row |= {"principals": ["group:everyone"], "access_revision": 1} | about
            await connection.execute(insert(tables.documents).values(row))
            if row["active_version"]:
                version = {"tenant": tenant, "document_id": document, "version": row["active_version"]}
                version |= {
                    "file_id": "f",
                    "filename": "f.md",
                    "title": "F",
                    "text_blob_key": "k",
                    "chunks_blob_key": "c",
                    "chunk_count": 3,
                }
                await connection.execute(insert(tables.versions).values(version))
    await database.close()
    await room.index.write([chunk("a", at, version=2) for at in range(3)] + [chunk("a", 9)])
    await room.index.write([chunk("b", at) for at in range(3)])
    await room.index.write([chunk("a", at, tenant="Globex & Co") for at in range(3)])


def tell(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


async def test_a_scan_hands_out_every_chunk_as_it_was_written(source: Room) -> None:
    written = [chunk(f"d{at % 7}", at) for at in range(1_100)]
    bare = replace(chunk("bare", 1), principals=(), attribute_terms=(), live=False, locator=Locator())
    await source.index.write([*written, bare, chunk("theirs", 1, tenant="Globex & Co")])
    expected = {one.chunk_id: repr(replace(one, vector=np.round(one.vector, 5))) for one in (*written, bare)}
    assert await source.chunks("acme") == expected
    assert len(await source.chunks("Globex & Co")) == 1
    assert await source.chunks("nobody") == {}


async def test_active_chunks_come_back_with_the_rights_that_the_register_knows(
    source: Room, target: Room, tmp_path: Path
) -> None:
    await filled(source)
    written = await source.part.pack(tmp_path / "out", tell)
    assert (written.baggage["chunks"], written.baggage["documents"], written.baggage["moved"]) == (9, 3, [])
    report = await target.part.unpack(tmp_path / "out", NOW, tell)
    assert (report["chunks"], report["rebuild"]) == (9, False)
    held = [one async for batch in target.index.scan("acme") for one in batch]
    assert {(one.document_id, one.version) for one in held} == {("a", 2), ("b", 1)}
    (restricted,) = {(one.live, one.principals, one.access_revision) for one in held if one.document_id == "b"}
    assert restricted == (False, ("user:eve",), 4)
    (other,) = {one.attribute_terms async for batch in target.index.scan("Globex & Co") for one in batch}
    assert other == attribute_terms({"team": "hr"})
    before, after = await source.chunks("acme"), await target.chunks("acme")
    # The register knows of no attributes, and decides; everything else is as it was.
    for at in range(3):
        key = chunk_id("acme", "a", 2, at)
        assert after[key] == before[key].replace(repr(attribute_terms({"team": "it"})), "()")
    (index,) = await target.rows(tables.indexes)
    assert (index.name, index.state, index.digest, index.model) == ("first", "live", "one", "the model")
    assert index.probes == source.record.probes.tobytes()
    assert sorted(await target.told()) == [
        ("Globex & Co", "version_indexed", "a"),
        ("acme", "document_removed", "gone"),
        ("acme", "version_indexed", "a"),
        ("acme", "version_indexed", "b"),
    ]


@pytest.mark.parametrize("other", [{"embedder": "two"}, {"seed": 8}], ids=["another name", "other vectors"])
async def test_vectors_of_another_model_stay_where_they_are(
    source: Room, target: Room, tmp_path: Path, other: dict[str, Any]
) -> None:
    await filled(source)
    await source.part.pack(tmp_path / "out", tell)
    report = await Room(target.url, target.index, **other).part.unpack(tmp_path / "out", NOW, tell)
    assert report["rebuild"] is True
    assert await target.chunks("acme") == {}
    assert {row.active_version for row in await target.rows(tables.documents)} == {0}
    assert [kind for _, kind, _ in await target.told()] == ["document_removed"]
    # The first process says whose vectors it will hold.
    assert await target.rows(tables.indexes) == []
    # Receipts still lead to the texts of their versions.
    assert len(await target.rows(tables.versions)) == 3


async def test_an_index_that_holds_something_is_refused(source: Room, target: Room, tmp_path: Path) -> None:
    await filled(source)
    await source.part.pack(tmp_path / "out", tell)
    await target.index.write([chunk("x", 1, tenant="Globex & Co")])
    with pytest.raises(Conflict, match="holds chunks of the tenant 'Globex & Co'"):
        await target.part.check(tmp_path / "out")


@pytest_asyncio.fixture
async def lance(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Room, Room]]:
    async with AsyncExitStack() as held:
        indexes = [
            await held.enter_async_context(opened("lancedb", tmp_path / name, request)) for name in ("one", "two")
        ]
        yield Room(f"sqlite:///{tmp_path}/one.db", indexes[0]), Room(f"sqlite:///{tmp_path}/two.db", indexes[1])


def when_scanned(room: Room, what: Callable[[], Any]) -> None:
    """Have something happen to the room while its chunks are read."""

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        async def scan(self, tenant: str) -> AsyncIterator[Any]:
            await what()
            async for batch in inner.scan(tenant):
                yield batch

    inner, room.index = room.index, Watched()


async def test_a_document_that_is_replaced_while_it_is_read_waits_to_be_announced_again(
    lance: tuple[Room, Room], tmp_path: Path
) -> None:
    source, target = lance
    await filled(source)
    index = source.index

    async def replaced() -> None:
        database = Database(source.url)
        async with database.begin() as connection:
            its = tables.documents.c.document_id == "b"
            await connection.execute(update(tables.documents).where(its).values(active_version=2))
        await database.close()
        await index.clear("acme", {"b": None})

    when_scanned(source, replaced)
    written = await source.part.pack(tmp_path / "out", tell)
    assert written.baggage["moved"] == [("acme", "b")]
    await target.part.unpack(tmp_path / "out", NOW, tell)
    active = {(row.tenant, row.document_id): row.active_version for row in await target.rows(tables.documents)}
    assert active["acme", "b"] == 0
    assert active["acme", "a"] == 2
    assert ("acme", "version_indexed", "b") not in await target.told()


async def test_chunks_that_are_missing_for_no_reason_end_the_export(lance: tuple[Room, Room], tmp_path: Path) -> None:
    source, _ = lance
    await filled(source)
    await source.index.clear("acme", {"b": None})
    with pytest.raises(Conflict, match="does not hold every chunk of document b of tenant 'acme'"):
        await source.part.pack(tmp_path / "out", tell)


async def test_a_file_of_other_chunks_is_refused_and_nothing_can_be_found(
    lance: tuple[Room, Room], tmp_path: Path
) -> None:
    source, target = lance
    await filled(source)
    await source.part.pack(tmp_path / "out", tell)
    path = tmp_path / "out/retrieval/chunks.parquet"
    path.write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(InvalidInput, match="cannot be read"):
        await target.part.unpack(tmp_path / "out", NOW, tell)
    with pytest.raises(Conflict, match="never started"):
        await target.part.pack(tmp_path / "again", tell)
