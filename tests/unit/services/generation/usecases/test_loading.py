"""How adapters come into the engine, which of them do not, and how long their files stay."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from services.chassis.errors import Conflict, Unavailable
from services.generation.usecases.registry import Standing
from tests.generation_parts import ANNA, Room, running
from tests.tiny_adapter import write_adapter

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
SHAPES = {"A": (4, 576), "B": (576, 4)}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "trained")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def served(room: Room, name: str) -> None:
    await room.until(lambda: name in room.names())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"weights_digest": "0" * 64}, "digest"),
        ({"config_digest": "0" * 64}, "digest"),
        ({"weights_digest": "../../etc"}, "announcement"),
        ({"config_blob_key": "globex/adapters/config"}, "announcement"),
        ({"weights_blob_key": "acme/../globex/weights"}, "announcement"),
        ({"weights_blob_key": "acme/adapters/nothing"}, "missing"),
        ({"base_digest": "other"}, "base_digest"),
        ({"base_digest": ""}, "base_digest"),
        ({"template_hash": "other"}, "template_hash"),
    ],
    ids=str,
)
async def test_what_is_not_as_announced_is_refused_with_the_reason(
    state: Path, files: Path, changed: dict[str, str], code: str
) -> None:
    async with running(state, "mode=echo&base_digest=abc&template_hash=def") as room:
        announce = room.announcer()
        right = {"base_digest": "abc", "template_hash": "def"}
        await announce.adapter("bad", 1, await announce.put(files), **(right | changed))
        await room.until(lambda: room.value("brain_adapter_refusals_total", reason=code) == 1)
        with pytest.raises(Conflict, match=rf"cannot be served \({code}\)"):
            await room.answer("bad")
        assert room.names() == ["base"]
        assert room.value("brain_generation_adapters", state="refused") == 1
        # A newer state is looked at anew.
        await announce.adapter("bad", 2, await announce.put(files), **right)
        await served(room, "bad")


async def test_a_name_that_cannot_be_served_is_refused(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("a b", 1, await announce.put(files))
        await room.until(lambda: room.value("brain_adapter_refusals_total", reason="announcement") == 1)
        with pytest.raises(Conflict, match="not allowed"):
            await room.answer("a b")


async def test_an_adapter_that_changes_nothing_is_refused(state: Path, tmp_path: Path) -> None:
    faint = write_adapter(tmp_path / "faint", config={"lora_alpha": 1e-12})
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("faint", 1, await announce.put(faint))
        await room.until(lambda: room.value("brain_adapter_refusals_total", reason="no_effect") == 1)
        with pytest.raises(Conflict, match="exactly as without it"):
            await room.answer("faint")
        assert room.engine._loaded == {}


async def test_an_adapter_with_which_nothing_can_be_computed_is_refused(state: Path, tmp_path: Path) -> None:
    ones = {f"{STEM}.lora_{half}.weight": np.full(shape, 6e4, np.float32) for half, shape in SHAPES.items()}
    huge = write_adapter(tmp_path / "huge", config={"lora_alpha": 1e6}, tensors=ones)
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("huge", 1, await announce.put(huge))
        await room.until(lambda: room.value("brain_adapter_refusals_total", reason="not_finite") == 1)
        with pytest.raises(Conflict, match="no finite numbers"):
            await room.answer("huge")


async def test_files_that_ended_the_engine_twice_are_not_tried_a_third_time(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        found = await announce.put(files)
        content = f"{found.weights_digest}-{found.config_digest}"
        for _ in range(2):
            # What a process leaves that dies while it tries.
            await room.trials.begin(content)
        await announce.adapter("deadly", 1, found)
        await room.until(lambda: room.value("brain_adapter_refusals_total", reason="engine_died") == 1)
        assert room.engine._loaded == {}


async def test_files_that_cannot_be_had_at_the_moment_are_tried_again(
    state: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.generation.usecases.loading._RETRY_EVERY_S", 0.05)
    async with running(state) as room:
        retrying = asyncio.create_task(room.loading.run())
        announce = room.announcer()
        found = await announce.put(files)
        # A directory where a file is wanted: the store answers with an error of the machine.
        shutil.rmtree(room.adapters)
        await announce.adapter("a", 1, found)
        await room.until(lambda: (it := room.known.find("acme", "a")) is not None and it.trouble is not None)
        with pytest.raises(Unavailable):
            await room.answer("a")
        room.adapters.mkdir()
        await served(room, "a")
        retrying.cancel()


async def test_the_least_recently_used_files_go_and_come_back_when_asked_for(state: Path, tmp_path: Path) -> None:
    async with running(state, max_kept=2) as room:
        announce = room.announcer()
        for number, name in enumerate(("one", "two", "three")):
            await announce.adapter(name, 1, await announce.put(write_adapter(tmp_path / name, rank=number + 1)))
            await served(room, name)
        assert len([*room.adapters.iterdir()]) == 2
        entry = room.known.find("acme", "one")
        assert entry is not None
        assert not (room.adapters / entry.source.content).exists()
        # Still listed, and fetched again for whoever asks.
        assert room.names() == ["base", "one", "two", "three"]
        assert await room.answer("one") == "«one» hello"
        assert (room.adapters / entry.source.content).is_dir()
        assert len([*room.adapters.iterdir()]) == 2
        # Those in use stay, however many there are.
        async with room.models.hold(ANNA, "one"), room.models.hold(ANNA, "two"), room.models.hold(ANNA, "three"):
            assert len([*room.adapters.iterdir()]) == 3


async def test_files_changed_on_disk_between_two_starts_are_fetched_again(state: Path, files: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        await announce.adapter("a", 1, await announce.put(files))
        await served(room, "a")
        [directory] = room.adapters.iterdir()
    (directory / "adapter_config.json").write_text("{}")
    (room.adapters / ".unfinished-x").mkdir()
    async with running(state) as room:
        assert await room.answer("a") == "«a» hello"
        assert [*room.adapters.iterdir()] == [directory]
        assert (directory / "adapter_config.json").read_bytes() == (files / "adapter_config.json").read_bytes()


async def test_after_a_restart_the_newest_are_loaded_and_the_others_when_asked_for(state: Path, tmp_path: Path) -> None:
    async with running(state) as room:
        announce = room.announcer()
        for number, name in enumerate(("oldest", "middle", "newest")):
            await announce.adapter(name, 1, await announce.put(write_adapter(tmp_path / name, rank=number + 1)))
            await served(room, name)
    async with running(state, loaded_at_start=1) as room:
        assert room.names() == ["base", "oldest", "middle", "newest"]
        await room.until(lambda: room.value("brain_generation_adapters", state="ready") == 1)
        newest = room.known.find("acme", "newest")
        assert newest is not None
        assert newest.standing is Standing.READY
        assert await room.answer("oldest") == "«oldest» hello"
        assert room.value("brain_generation_adapters", state="waiting") == 1
