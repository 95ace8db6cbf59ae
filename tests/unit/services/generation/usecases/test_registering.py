"""Adapters that somebody put into the folder, beside those that were announced."""

import asyncio
import shutil
from pathlib import Path

import pytest

from services.chassis.errors import Conflict, InvalidInput
from services.generation.domain import Adapter
from tests.generation_parts import Room, caller, running
from tests.tiny_adapter import write_adapter


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "trained")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def served(room: Room, name: str) -> None:
    await room.until(lambda: name in room.names())


async def test_by_hand_and_announced_share_their_names(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        await announce.adapter("announced", 1, found)
        await announce.alias("support", "announced", 1)
        await served(room, "support")
        by_hand = write_adapter(room.adapters / "mine", rank=2)
        for taken in ("announced", "support"):
            with pytest.raises(Conflict):
                await room.register.register("acme", taken, "mine")
        with pytest.raises(Conflict, match="published"):
            await room.register.unregister("acme", "announced")
        # What the room fetched is nobody's to register.
        [fetched] = [entry for entry in room.adapters.iterdir() if entry != by_hand]
        with pytest.raises(InvalidInput, match="room keeps"):
            await room.register.register("acme", "stolen", fetched.name)
        await room.register.register("acme", "mine", "mine")
        assert await room.answer("mine") == "«mine» hello"
        # Announced later under the same name: that one is served, also after a restart.
        await announce.adapter("mine", 1, found, principals=["user:zoe"])
        await room.until(lambda: "mine" not in room.names() and "mine" in room.names(caller("zoe")))
    async with running(state) as room:
        assert "mine" not in room.names()
        assert await room.answer("mine", caller("zoe")) == "«mine» hello"


async def test_what_was_registered_by_hand_is_served_from_a_copy(state: Path) -> None:
    async with running(state) as room:
        folder = write_adapter(room.adapters / "mine")
        await room.register.register("acme", "mine", "mine")
        shutil.rmtree(folder)
        assert await room.answer("mine") == "«mine» hello"


async def test_what_is_announced_while_it_is_registered_goes_before(
    state: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(state) as room:
        write_adapter(room.adapters / "mine", rank=2)
        loading, goes_on, load = asyncio.Event(), asyncio.Event(), room.engine.load

        async def slow(adapter: Adapter) -> None:
            loading.set()
            await goes_on.wait()
            await load(adapter)

        monkeypatch.setattr(room.engine, "load", slow)
        registering = asyncio.create_task(room.register.register("acme", "mine", "mine"))
        await loading.wait()
        announce = room.announcer()
        await announce.adapter("mine", 1, await announce.put(files), principals=["user:zoe"])
        await room.until(lambda: room.value("brain_adapter_events_total", outcome="applied") == 1)
        goes_on.set()
        with pytest.raises(Conflict, match="published"):
            await registering
        await room.until(lambda: "mine" in room.names(caller("zoe")))
        assert "mine" not in room.names()
