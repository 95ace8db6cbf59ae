"""How the room comes to serve what was announced, in whatever order it hears of it, and over restarts."""

import asyncio
from pathlib import Path

import pytest

from brain.events.v1 import adapter_pb2
from services.chassis.auth import Role
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from services.generation.domain import Adapter, Finish, Sampling, Started, Step
from tests.adapter_announcer import BLOCKED, DELETED
from tests.generation_parts import ANNA, Room, caller, running
from tests.tiny_adapter import write_adapter


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "trained")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def served(room: Room, name: str) -> None:
    await room.until(lambda: name in room.names())


async def test_an_announced_adapter_is_listed_and_answers(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("ft:base:acme:one:1", 1, await announce.put(files))
        await served(room, "ft:base:acme:one:1")
        assert await room.answer("ft:base:acme:one:1") == "«ft:base:acme:one:1» hello"
        assert await room.answer("") == "hello"
        [_, model] = room.models.list(ANNA)
        assert (model.parent, model.alias) == ("base", False)
        assert room.value("brain_generation_adapters", state="ready") == 1
        assert room.value("brain_adapter_load_seconds_count", stage="compare") == 1


async def test_before_everything_is_known_only_the_base_answers(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await served(room, "a")
    room = Room(state)
    with pytest.raises(Unavailable, match="not known yet") as caught:
        room.models.find(ANNA, "a")
    assert caught.value.retry_after_s
    assert room.models.find(ANNA, "base") == "base"
    assert room.names() == ["base"]
    await room.log.close()
    await room.database.close()


async def test_a_restart_serves_what_stands_and_nothing_that_was_blocked(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        for name in ("kept", "blocked", "deleted"):
            await announce.adapter(name, 1, await announce.put(files))
            await served(room, name)
        await announce.adapter("blocked", 2, status=BLOCKED, reason="document_deleted")
        await announce.adapter("deleted", 2, status=DELETED)
        await room.until(lambda: room.names() == ["base", "kept"])
    async with running(state) as room:
        # At once, before its files were looked at again.
        assert room.names() == ["base", "kept"]
        assert await room.answer("kept") == "«kept» hello"
        with pytest.raises(PermissionDenied, match="document_deleted"):
            await room.answer("blocked")
        with pytest.raises(NotFound):
            await room.answer("deleted")


async def test_late_and_repeated_states_change_nothing(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        await announce.adapter("a", 3, found, status=BLOCKED, reason="by_hand")
        await announce.adapter("a", 3, found)
        await announce.adapter("a", 2, found)
        await room.until(lambda: room.value("brain_adapter_events_total", outcome="stale") == 2)
        with pytest.raises(PermissionDenied, match="by_hand"):
            await room.answer("a")
        await announce.adapter("a", 4, found)
        await served(room, "a")
        assert await room.answer("a") == "«a» hello"


async def test_a_blocked_adapter_is_served_again_by_a_newer_state(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        for revision in (1, 3):
            await announce.adapter("a", revision, found)
            await served(room, "a")
            assert await room.answer("a") == "«a» hello"
            await announce.adapter("a", revision + 1, found, status=BLOCKED)
            await room.until(lambda: room.names() == ["base"])
            with pytest.raises(PermissionDenied, match="no reason given"):
                await room.answer("a")


async def test_tenants_do_not_see_each_others_adapters_of_one_name(state: Path, tmp_path: Path, files: Path) -> None:
    other = write_adapter(tmp_path / "other", inner=64, outer=64)
    async with running(state) as room:
        for tenant, folder in (("acme", files), ("globex", other)):
            announce = room.announcer(tenant)
            await announce.adapter("same", 1, await announce.put(folder))
        bob = caller("bob", "globex")
        await room.until(lambda: "same" in room.names() and "same" in room.names(bob))
        await room.announcer("globex").adapter("same", 2, status=BLOCKED)
        await room.until(lambda: room.names(bob) == ["base"])
        assert await room.answer("same") == "«same» hello"


async def test_an_adapter_is_for_its_audience_and_administrators(state: Path, files: Path) -> None:
    hr = caller("anna", "acme", groups=("hr",))
    boss = caller("boss", "acme", Role.ADMINISTRATOR)
    foreign = caller("boss", "globex", Role.ADMINISTRATOR)
    trainer = caller("tina", "acme", Role.TRAINER)
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files), principals=["group:hr", "user:zoe"])
        await announce.adapter("nobody", 1, await announce.put(files), principals=[])
        await room.until(lambda: room.names(boss) == ["base", "a", "nobody"])
        assert room.names(hr) == room.names(caller("zoe")) == ["base", "a"]
        for who in (ANNA, trainer, foreign):
            assert room.names(who) == ["base"]
            with pytest.raises(NotFound) as caught:
                await room.answer("a", who)
            assert str(caught.value) == str(NotFound("model: there is no model 'a'."))
        assert await room.answer("a", hr) == "«a» hello"
        assert await room.answer("nobody", boss) == "«nobody» hello"
        # A narrower audience holds at once, without loading anything again.
        loads = room.value("brain_adapter_load_seconds_count", stage="load")
        await announce.adapter("a", 2, await announce.put(files), principals=["user:zoe"])
        await room.until(lambda: room.names(hr) == ["base"])
        assert await room.answer("a", caller("zoe")) == "«a» hello"
        assert room.value("brain_adapter_load_seconds_count", stage="load") == loads


async def test_what_runs_on_an_adapter_that_is_blocked_ends_at_its_next_step(state: Path, files: Path) -> None:
    async with running(state, "mode=paced&rate=50&tokens=400") as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await served(room, "a")
        said: list[Started | Step] = []
        with pytest.raises(PermissionDenied, match="document_deleted"):
            async for event in room.generate(caller=ANNA, model="a", prompt="go", sampling=Sampling(n=2)):
                said.append(event)
                if len(said) == 5:
                    await announce.adapter("a", 2, status=BLOCKED, reason="document_deleted")
        steps = [step for step in said if isinstance(step, Step)]
        assert [(step.index, step.text, step.finish) for step in steps[-2:]] == [
            (0, "", Finish.ERROR),
            (1, "", Finish.ERROR),
        ]
        assert len(steps) < 200
        # Nothing of it is left in the engine.
        await room.until(lambda: room.engine._loaded == {})
        assert room.admission.inflight == 0


async def test_an_adapter_that_is_blocked_while_it_is_loaded_is_not_served(
    state: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(state) as room:
        loading, goes_on, load = asyncio.Event(), asyncio.Event(), room.engine.load

        async def slow(adapter: Adapter) -> None:
            loading.set()
            await goes_on.wait()
            await load(adapter)

        monkeypatch.setattr(room.engine, "load", slow)
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await loading.wait()
        waiting = asyncio.create_task(room.answer("a"))
        await announce.adapter("a", 2, status=BLOCKED, reason="by_hand")
        await room.until(lambda: room.value("brain_generation_adapters", state="blocked") == 1)
        goes_on.set()
        with pytest.raises(PermissionDenied, match="by_hand"):
            await waiting
        await room.until(lambda: room.engine._loaded == {})
        assert room.value("brain_generation_adapters", state="ready") == 0


async def test_what_runs_on_an_adapter_that_is_deleted_ends_as_it_would(state: Path, files: Path) -> None:
    async with running(state, "mode=paced&rate=50&tokens=30") as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await served(room, "a")
        [directory] = room.adapters.iterdir()
        said: list[Started | Step] = []
        async for event in room.generate(caller=ANNA, model="a", prompt="go", sampling=Sampling()):
            said.append(event)
            if len(said) == 3:
                await announce.adapter("a", 2, status=DELETED)
                await room.until(lambda: room.names() == ["base"])
            # The files stay as long as something may read them.
            assert directory.is_dir()
        assert isinstance(said[-1], Step)
        assert said[-1].finish is Finish.STOP
        await room.until(lambda: not directory.exists() and room.engine._loaded == {})


async def test_withheld_is_refused_at_once_and_after_a_restart_until_a_newer_state(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        await announce.adapter("a", 2, found)
        await served(room, "a")
        await room.withhold("acme", {"a": 2, "not-here-yet": 5})
        assert room.names() == ["base"]
        with pytest.raises(PermissionDenied, match="withheld"):
            await room.answer("a")
        assert room.value("brain_generation_adapters", state="withheld") == 1
        await announce.adapter("not-here-yet", 5, found)
        await room.until(lambda: room.value("brain_generation_adapters", state="withheld") == 2)
    async with running(state) as room:
        announce = room.announcer()
        for name in ("a", "not-here-yet"):
            with pytest.raises(PermissionDenied, match="withheld"):
                await room.answer(name)
        await announce.adapter("a", 3, status=BLOCKED, reason="document_deleted")
        await announce.adapter("not-here-yet", 6, found)
        await served(room, "not-here-yet")
        with pytest.raises(PermissionDenied, match="document_deleted"):
            await room.answer("a")
    async with running(state) as room:
        assert await room.answer("not-here-yet") == "«not-here-yet» hello"


async def test_withholding_is_for_one_tenant_and_refuses_what_no_revision_is(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await served(room, "a")
        await room.withhold("globex", {"a": 9})
        assert await room.answer("a") == "«a» hello"
        for wrong in ({"a": -1}, {"a": 1 << 63}, {"": 1}, {"x" * 257: 1}):
            with pytest.raises(InvalidInput):
                await room.withhold("acme", wrong)


async def test_an_event_that_cannot_be_read_blocks_what_it_was_about_and_nothing_else(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        for name in ("a", "b"):
            await announce.adapter(name, 1, found)
            await served(room, name)
        await announce.send_bytes("adapter:a", b"\xff\xff\xff")
        await room.until(lambda: room.value("brain_adapter_events_total", outcome="unreadable") == 1)
        with pytest.raises(PermissionDenied, match="unreadable_event"):
            await room.answer("a")
        assert await room.answer("b") == "«b» hello"
        # A status that this version does not know is none under which anything is said.
        await announce.adapter("b", 2, found, status=77)
        await room.until(lambda: room.names() == ["base"])
        await announce.adapter("a", 2, found)
        await served(room, "a")
        await announce.send("promotion:p", _promotion())
        await room.until(lambda: room.value("brain_adapter_events_total", outcome="ignored") == 1)


def _promotion() -> adapter_pb2.AdapterEvent:
    return adapter_pb2.AdapterEvent(promotion=adapter_pb2.PromotionAnnounced(promotion_id="p", alias="support"))
