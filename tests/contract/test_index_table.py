"""The table of indexes: who builds, what is left, who waits for whom, and the moment of the switch."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from services.chassis.database import Database, migrate
from services.chassis.errors import Conflict
from services.chassis.events.outbox import OutboxRelay
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.domain import (
    ChunkedVersion,
    IndexMoved,
    IndexRecord,
    IndexState,
    Locator,
    PendingDocument,
    Piece,
)

# Enough for two that race to meet in different places.
ROUNDS = 12


class Room:
    """The tables as two processes of the room see them."""

    def __init__(self, url: str, log: SqliteEventLog) -> None:
        self.databases = [Database(url) for _ in range(2)]
        self.tables = [SqlIndexTable(one) for one in self.databases]
        self.registers = [
            SqlRegister(one, relay=OutboxRelay(database=one, table=outbox, log=log)) for one in self.databases
        ]
        self.table, self.register = self.tables[0], self.registers[0]

    async def add(self, *names: str, version: int = 1, index: str = "chunks") -> None:
        await self.register.activate([chunked(name, version) for name in names], index=index)

    async def states(self) -> dict[str, IndexState]:
        return {one.name: one.state for one in await self.table.records()}

    async def write(self, *names: str, index: str = "new") -> None:
        """Do what a builder does to the table."""
        places = {place(name): 1 for name in names}
        await self.table.begin_writing(index, places, holder="one")
        assert await self.table.end_writing(index, list(places)) == []


@pytest.fixture
async def room(database_url: str, tmp_path: Path) -> AsyncIterator[Room]:
    log = SqliteEventLog("")
    made = Room(database_url, log)
    await migrate(made.databases[0], "services.retrieval.migrations")
    await made.table.enter(record("chunks", IndexState.LIVE))
    yield made
    for one in made.databases:
        await one.close()
    await log.close()


def record(name: str, state: IndexState = IndexState.BUILDING) -> IndexRecord:
    return IndexRecord(name, f"digest of {name}", f"model of {name}", 4, np.eye(4, dtype=np.float32), state, 7.0)


def place(name: str, tenant: str = "acme") -> PendingDocument:
    return PendingDocument(tenant, name)


def chunked(name: str, version: int, tenant: str = "acme") -> ChunkedVersion:
    return ChunkedVersion(
        tenant=tenant,
        document_id=name,
        collection_id="vs_1",
        version=version,
        file_id="file-1",
        filename="a.md",
        title="A",
        text_blob_key="text",
        chunks_blob_key="chunks",
        attributes={},
        principals=("group:everyone",),
        access_revision=1,
        pieces=(Piece(0, "text", "text", 0, 4, Locator()),),
    )


async def test_what_is_said_of_an_index_is_kept(room: Room) -> None:
    await room.table.enter(record("another", IndexState.LIVE))
    (found,) = await room.table.records()
    assert (found.name, found.digest, found.model, found.dimension) == (
        "chunks",
        "digest of chunks",
        "model of chunks",
        4,
    )
    assert (found.state, found.since, np.array_equal(found.probes, np.eye(4))) == (IndexState.LIVE, 7.0, True)
    assert not await room.table.has_documents()
    await room.add("d1")
    assert await room.table.has_documents()


async def test_one_process_builds_one_index(room: Room) -> None:
    assert await room.table.build(record("new"), holder="one", lease_s=60)
    assert await room.table.build(record("new"), holder="one", lease_s=60)
    assert not await room.table.build(record("new"), holder="two", lease_s=60)
    with pytest.raises(Conflict, match=r"Index new, for model of new, is being built"):
        await room.table.build(record("newer"), holder="two", lease_s=60)
    with pytest.raises(Conflict):
        await room.table.renew("new", holder="two", lease_s=60)
    await room.table.renew("new", holder="one", lease_s=0)
    assert await room.table.build(record("new"), holder="two", lease_s=60)
    for late in (
        room.table.renew("new", holder="one", lease_s=60),
        room.table.switch("new", holder="one"),
        room.table.begin_writing("new", {place("d1"): 1}, holder="one"),
    ):
        with pytest.raises(Conflict):
            await late
    assert await room.states() == {"chunks": IndexState.LIVE, "new": IndexState.BUILDING}


async def test_builders_that_begin_at_once_are_one(room: Room) -> None:
    found = await asyncio.gather(
        *(
            table.build(record(name), holder=f"{name} {at}", lease_s=60)
            for name in ("new", "newer")
            for at, table in enumerate(room.tables)
        ),
        return_exceptions=True,
    )
    assert sum(one is True for one in found) == 1
    assert all(isinstance(one, bool | Conflict) for one in found)


async def test_what_is_pending_follows_what_the_register_says(room: Room) -> None:
    await room.add("d1", "d2", "d3", "d4", "d5")
    await room.table.build(record("new"), holder="one", lease_s=60)

    async def pending(after: str = "") -> list[str]:
        found = await room.table.pending("new", place(after) if after else None, 10)
        return [one.document_id for one in found]

    assert await pending() == ["d1", "d2", "d3", "d4", "d5"]
    assert await pending("d3") == ["d4", "d5"]
    assert await room.table.count("new") == (5, 5)
    await room.write("d1", "d2", "d3", "d4")
    assert (await pending(), await room.table.count("new")) == (["d5"], (5, 1))
    await room.add("d1", version=2)
    await room.register.restrict("acme", "d2", ["user:bob"], 2)
    await room.register.set_attributes("acme", "d3", {"team": "it"}, 1)
    await room.register.withhold("acme", "d5")
    await room.register.begin_removal("acme", "d4", 1)
    assert await pending() == ["d1", "d2", "d3"]
    assert await room.table.held_version("new", [place("d1"), place("d2"), place("d9")]) == {
        place("d1"): 1,
        place("d2"): 1,
    }
    assert await room.table.switch("new", holder="one") == 3
    assert (await room.states())["chunks"] is IndexState.LIVE


async def test_who_writes_is_told_the_newest_and_no_document_that_went(room: Room) -> None:
    await room.add("d1", "d2", "d3", "d4")
    await room.table.build(record("new"), holder="one", lease_s=60)
    await room.register.restrict("acme", "d1", ["user:bob"], 4)
    await room.add("d2", version=2)
    await room.register.begin_removal("acme", "d3", 1)
    found = await room.table.begin_writing(
        "new", {place(name): 1 for name in ("d1", "d2", "d3", "d4", "d9")}, holder="one"
    )
    assert {one.document_id: state.principals for one, state in found.items()} == {
        "d1": ("user:bob",),
        "d4": ("group:everyone",),
    }
    assert {one.document_id for one in await room.table.interrupted("new")} == {"d1", "d4"}
    assert await room.table.is_being_written("acme", "d1")
    assert not await room.table.is_being_written("acme", "d3")
    assert not await room.table.is_being_written("globex", "d1")
    assert await room.table.end_writing("new", list(found)) == []
    assert not await room.table.is_being_written("acme", "d1")


async def test_a_builder_that_is_gone_holds_up_no_removal_and_learns_of_it(room: Room) -> None:
    await room.add("d1")
    await room.table.build(record("new"), holder="one", lease_s=60)
    await room.table.begin_writing("new", {place("d1"): 1}, holder="one")
    await room.table.renew("new", holder="one", lease_s=0)
    assert not await room.table.is_being_written("acme", "d1")
    assert await room.register.begin_removal("acme", "d1", 1)
    await room.register.finish_removal("acme", "d1")
    # It was only frozen, and wrote.
    assert await room.table.end_writing("new", [place("d1")]) == [place("d1")]


async def test_after_the_switch_nothing_becomes_active_in_the_old_index(room: Room) -> None:
    await room.add("d1")
    await room.table.build(record("new"), holder="one", lease_s=60)
    await room.write("d1")
    assert await room.table.switch("new", holder="one") == 0
    assert await room.states() == {"chunks": IndexState.OLD, "new": IndexState.LIVE}
    with pytest.raises(IndexMoved):
        await room.add("d2")
    with pytest.raises(IndexMoved):
        await room.register.look_up("acme", [], index="chunks")
    await room.add("d2", index="new")
    assert set(await room.register.look_up("acme", ["d1", "d2"], index="new")) == {"d1", "d2"}
    with pytest.raises(Conflict, match="old index chunks is still kept"):
        await room.table.build(record("newest"), holder="one", lease_s=60)
    await room.table.forget("chunks")
    assert await room.table.build(record("newest"), holder="one", lease_s=60)


async def test_a_version_is_activated_before_the_switch_or_refused(room: Room) -> None:
    """Whoever comes first: no version becomes active that the index which is live then does not hold."""
    for number in range(ROUNDS):
        live, new = (f"index{number}", f"index{number + 1}") if number else ("chunks", "index1")
        await room.table.build(record(new), holder="one", lease_s=60)
        await room.write(*(one.document_id for one in await room.table.pending(new, None, 1_000)), index=new)

        async def activate(name: str, live: str = live) -> bool:
            await asyncio.sleep(0)
            try:
                await room.registers[1].activate([chunked(name, 1)], index=live)
            except IndexMoved:
                return False
            return True

        done, left = await asyncio.gather(activate(f"d{number}"), room.table.switch(new, holder="one"))
        assert (done, left) in {(True, 1), (False, 0)}, "an activation was overlooked, or refused for nothing"
        if left:
            await room.write(f"d{number}", index=new)
            assert await room.table.switch(new, holder="one") == 0
        await room.table.forget(live)
