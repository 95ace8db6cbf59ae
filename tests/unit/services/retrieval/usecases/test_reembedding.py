"""Building an index for another embedder beside the live one, on the embedded back ends in this process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from services.chassis.database import migrate
from services.chassis.errors import Conflict, InvalidInput, NotFound, Unavailable
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.domain import (
    PROBES,
    IndexRecord,
    IndexState,
    PendingDocument,
    Reader,
)
from services.retrieval.usecases import LiveIndexes, Progress, building, reembedding
from tests.reembedding_room import Bag, Chunks, Room, Told


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_LEASE_S", 1.0)
    for module in (building, reembedding):
        monkeypatch.setattr(module, "_PAUSE_S", 0.05)


@pytest.fixture
def old() -> Bag:
    return Bag("old", 24)


@pytest.fixture
def new() -> Bag:
    return Bag("new", 40)


@pytest_asyncio.fixture
async def rooms(tmp_path: Path, database_url: str, old: Bag, new: Bag) -> AsyncIterator[list[Room]]:
    """Two processes of one room."""
    log, chunks = SqliteEventLog(""), Chunks()
    made = [Room(tmp_path, database_url, log, chunks, old, new) for _ in range(2)]
    await migrate(made[0].database, "services.retrieval.migrations")
    for one in made:
        await one.indexes.start()
    await made[0].add("leave", "Leave is 25 days.", "Leave is asked for in the portal.", "Parental leave is longer.")
    await made[0].add("canteen", "Lunch costs six euros.")
    await made[0].add("bees", "Bees are kept on the roof.")
    yield made
    for one in made:
        await one.close()
    await log.close()


async def test_every_process_searches_the_new_index_as_soon_as_it_is_live(
    rooms: list[Room], old: Bag, new: Bag
) -> None:
    room, other = rooms
    assert (await other.find("lunch costs"))[0].text == "<Lunch costs six euros.>"
    assert await room.reembed(new).run()
    assert (room.reports[0], room.reports[-1]) == (Progress(3, 3), Progress(3, 0))
    # What is embedded is what the indexer embeds: the piece, not the wider passage that is handed out.
    assert "Lunch costs six euros." in new.embedded
    for one in rooms:
        new.embedded.clear()
        old.embedded.clear()
        (first, *_) = await one.find("lunch costs")
        assert (first.text, new.embedded) == ("<Lunch costs six euros.>", ["lunch costs"])
    assert (await other.find("bees are kept on the roof"))[0].document_id == "bees"
    assert await room.counts(new, "leave", "canteen", "bees") == {("leave", 1): 3, ("canteen", 1): 1, ("bees", 1): 1}
    await other.add("later", "A later letter.")
    assert await room.counts(new, "later") == {("later", 1): 1}
    assert await room.counts(old, "later", first=True) == {}


async def test_what_changes_while_it_is_built_is_right_afterwards(rooms: list[Room], new: Bag) -> None:
    room, other = rooms
    began = asyncio.Event()

    async def meanwhile() -> None:
        await other.add("late", "A latecomer comes late.")
        await other.add("bees", "Bees were moved to the garden.", number=2)
        await other.remove.run("acme", "canteen")
        await other.change_access.run("acme", "leave", ["user:bob"], 2)

    def before(texts: Sequence[str]) -> Any:
        if not began.is_set() and "Lunch costs six euros." in texts:
            began.set()
            return meanwhile()
        return None

    new.before = before
    assert await room.reembed(new).run()
    assert began.is_set()
    documents = ("leave", "canteen", "bees", "late")
    assert await room.counts(new, *documents) == {("leave", 1): 3, ("bees", 2): 1, ("late", 1): 1}
    for one in rooms:
        assert {passage.document_id for passage in await one.find("days of leave")} == {"bees", "late"}
        bob = Reader("acme", ("user:bob", "group:everyone"))
        assert (await one.find("days of leave", bob))[0].document_id == "leave"


async def test_an_access_list_that_changed_costs_no_embedding(rooms: list[Room], new: Bag) -> None:
    room, _ = rooms
    work = room.reembed(new)
    done = 0

    def report(progress: Progress) -> None:
        nonlocal done
        done = progress.documents - progress.pending
        if progress.pending == 0:
            work.stop()

    work._report = report
    # It ends after the last document and before the switch.
    assert not await work.run()
    assert done == 3
    await room.register.restrict("acme", "bees", ["user:bob"], 5)
    await room.register.set_attributes("acme", "canteen", {"team": "hr"}, 5)
    new.embedded.clear()
    assert await room.reembed(new).run()
    assert set(new.embedded) == set(PROBES)
    bob = Reader("acme", ("user:bob",))
    assert {one.document_id for one in await room.find("bees", bob)} == {"bees"}
    assert "bees" not in {one.document_id for one in await room.find("bees")}


async def test_a_removal_waits_for_chunks_that_are_being_written_and_takes_them_too(
    rooms: list[Room], old: Bag, new: Bag
) -> None:
    room, other = rooms
    index = await room.shelf.open(room.shelf.name_of(new.digest), dimension=new.dimension, create=True)
    record = IndexRecord(
        room.shelf.name_of(new.digest), new.digest, "new", 40, np.eye(4, 40, dtype=np.float32), IndexState.BUILDING, 0.0
    )
    place = PendingDocument("acme", "bees")
    await room.table.build(record, holder="builder", lease_s=60)
    await room.table.begin_writing(record.name, {place: 1}, holder="builder")
    with pytest.raises(Unavailable, match="embedded again at this moment"):
        await other.remove.run("acme", "bees")
    assert "bees" not in {one.document_id for one in await other.find("roof")}
    assert await room.table.end_writing(record.name, [place]) == []
    await index.close()
    await other.remove.run("acme", "bees")
    assert await room.counts(new, "bees") == await room.counts(old, "bees", first=True) == {}


async def test_what_a_builder_that_was_killed_left_is_removed_and_the_next_goes_on(rooms: list[Room], new: Bag) -> None:
    room, other = rooms

    class Killed(BaseException):
        pass

    def before(texts: Sequence[str]) -> Any:
        if "Leave is asked for in the portal." in texts:
            raise Killed

    new.before = before
    with pytest.raises(Killed):
        await room.reembed(new, "first").run()
    name = room.shelf.name_of(new.digest)
    # As a kill between the note and the writing leaves it: noted, and in part there.
    await room.table.build(
        next(one for one in await room.table.records() if one.name == name), holder="first", lease_s=0.5
    )
    await room.table.begin_writing(name, {PendingDocument("acme", "leave"): 1}, holder="first")
    new.before = None
    new.embedded.clear()
    assert await other.reembed(new, "second").run()
    assert set(new.embedded).isdisjoint({"Bees are kept on the roof.", "Lunch costs six euros."})
    assert await room.counts(new, "leave", "canteen", "bees") == {("leave", 1): 3, ("canteen", 1): 1, ("bees", 1): 1}


async def test_a_document_that_cannot_be_embedded_is_named_and_holds_up_the_switch_alone(
    rooms: list[Room], old: Bag, new: Bag
) -> None:
    room, _ = rooms
    del room.chunks.kept["acme/chunks/canteen/1.pb"]

    def before(texts: Sequence[str]) -> Any:
        if any("portal" in text for text in texts):
            raise InvalidInput("The embedder refuses a text.")

    new.before = before
    with pytest.raises(Conflict, match=r"2 documents cannot be embedded again") as raised:
        await room.reembed(new).run()
    assert "canteen of acme: The chunks are not there." in str(raised.value)
    assert "leave of acme: The embedder refuses a text." in str(raised.value)
    assert await room.counts(new, "bees", "leave", "canteen") == {("bees", 1): 1}
    assert (await room.find("bees are kept on the roof"))[0].document_id == "bees"
    await room.remove.run("acme", "canteen")
    new.before = None
    assert await room.reembed(new).run()
    assert await room.counts(new, "bees", "leave") == {("bees", 1): 1, ("leave", 1): 3}


async def test_a_process_that_was_not_told_of_the_embedder_answers_nothing_wrong(
    rooms: list[Room], tmp_path: Path, database_url: str, old: Bag, new: Bag
) -> None:
    log = SqliteEventLog("")
    untold = Room(tmp_path, database_url, log, Chunks(), old)
    await untold.indexes.start()
    assert await rooms[0].reembed(new).run()
    with pytest.raises(Unavailable, match="was not told of"):
        await untold.find("lunch")
    with pytest.raises(Unavailable, match="was not told of"):
        await untold.add("late", "Too late.")
    assert await rooms[0].register.look_up("acme", ["late"]) == {}
    await untold.close()
    late = Room(tmp_path, database_url, log, Chunks(), old)
    with pytest.raises(Conflict, match="set it to new"):
        await late.indexes.start()
    await late.close()
    await log.close()


async def test_the_old_index_goes_when_it_is_told_to_and_nobody_misses_it(
    rooms: list[Room], old: Bag, new: Bag
) -> None:
    room, other = rooms
    for state in (IndexState.OLD, IndexState.BUILDING, IndexState.LIVE):
        with pytest.raises(NotFound):
            await room.removing().run(state)
    assert await room.reembed(new).run()
    with pytest.raises(Conflict, match="holds this embedder's vectors already"):
        await room.reembed(new).run()
    with pytest.raises(Conflict, match="--drop-old"):
        await room.reembed(old).run()
    # The old one is not searched, but told of removals and access lists as long as it is there.
    await other.remove.run("acme", "bees")
    assert await room.counts(old, "bees", "canteen", first=True) == {("canteen", 1): 1}
    assert (await room.removing().run(IndexState.OLD)).name == "chunks"
    with pytest.raises(NotFound):
        await room.counts(old, "leave", first=True)
    # One that still has it open.
    await other.change_access.run("acme", "leave", ["user:bob"], 2)
    await other.remove.run("acme", "canteen")
    assert await room.counts(new, "leave", "canteen") == {("leave", 1): 3}


async def test_a_process_that_slept_through_switch_and_removal_finds_the_live_index(
    rooms: list[Room], new: Bag
) -> None:
    room, slept = rooms
    assert (await slept.find("lunch costs"))[0].document_id == "canteen"
    assert await room.reembed(new).run()
    await room.removing().run(IndexState.OLD)
    assert (await slept.find("lunch costs"))[0].document_id == "canteen"


async def test_a_build_that_is_abandoned_leaves_nothing(rooms: list[Room], new: Bag) -> None:
    room, other = rooms
    began, going_on = asyncio.Event(), asyncio.Event()

    async def waiting() -> None:
        began.set()
        await going_on.wait()

    new.before = lambda texts: waiting() if any("Lunch" in text for text in texts) else None
    work = room.reembed(new)
    building = asyncio.create_task(work.run())
    await began.wait()
    with pytest.raises(Conflict, match="Another process builds"):
        await other.removing().run(IndexState.BUILDING)
    work.stop()
    going_on.set()
    assert not await building
    assert (await other.removing().run(IndexState.BUILDING)).digest == new.digest
    with pytest.raises(NotFound):
        await room.counts(new, "canteen")
    assert [one.state for one in await room.table.records()] == [IndexState.LIVE]
    assert (await room.find("lunch costs"))[0].document_id == "canteen"
    new.before = None
    assert await room.reembed(new).run()


async def test_an_index_that_was_there_before_the_table_is_that_of_the_only_embedder_there_was(
    rooms: list[Room], old: Bag, new: Bag
) -> None:
    room, _ = rooms
    await room.table.forget("chunks")
    untold = LiveIndexes(table=room.table, shelf=room.shelf, embedders=Told(new), first_model="old")
    with pytest.raises(Conflict, match="was made with old, not new; set embedder_url to minilm://"):
        await untold.start()
    assert await room.table.records() == []
    again = LiveIndexes(table=room.table, shelf=room.shelf, embedders=Told(old, new), first_model="old")
    await again.start()
    (record,) = await room.table.records()
    assert (record.name, record.digest, record.state) == ("chunks", old.digest, IndexState.LIVE)
    assert await (await again.live()).index.counts("acme", ["leave"]) == {("leave", 1): 3}
    await again.close()
