import json
from pathlib import Path

import pytest

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.backends.adapter_content import AdapterContent, largest_values
from services.generation.backends.adapter_files import FolderInspector, base_shapes
from services.generation.domain import AdapterLimits
from tests.hostile_adapters import GOOD, GOOD_CONFIG, HOSTILE, STEM, Hostile, a, b, pack
from tests.tiny_adapter import write_adapter

SHAPES = {"model.layers.0.self_attn.q_proj": (576, 576)}


def content(*, max_bytes: int = 1 << 20) -> AdapterContent:
    return AdapterContent(AdapterLimits(frozenset({"q_proj", "v_proj"}), 16, max_bytes), shapes=SHAPES)


def inspector(folder: Path) -> FolderInspector:
    return FolderInspector(folder, content=content())


def write(folder: Path, config: bytes, weights: bytes) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


async def test_a_good_adapter_is_described(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "good")
    by_name = await inspector(tmp_path).inspect("good")
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert (by_name.rank, len(by_name.digest), len(by_name.config_digest), by_name.size_bytes) == (4, 64, 64, size)
    assert await inspector(tmp_path).inspect(str(tmp_path / "good")) == by_name


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_each_format_of_numbers_is_read(tmp_path: Path, dtype: str) -> None:
    folder = write(tmp_path / "good", GOOD_CONFIG, pack(a(dtype=dtype, value=0.5), b(dtype=dtype, value=-2.0)))
    assert content().inspect(folder, param="adapter").rank == 4
    found = largest_values(folder / "adapter_model.safetensors")
    assert found == {f"{STEM}.lora_A.weight": 0.5, f"{STEM}.lora_B.weight": 2.0}


def test_what_the_hostile_ones_are_made_of_is_good(tmp_path: Path) -> None:
    assert content().inspect(write(tmp_path / "good", GOOD_CONFIG, GOOD), param="adapter").rank == 4


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda it: it.name)
def test_what_would_break_the_engine_is_refused_with_the_reason(tmp_path: Path, hostile: Hostile) -> None:
    folder = write(tmp_path / "bad", hostile.config, hostile.weights)
    with pytest.raises(hostile.error, match="adapter: ") as caught:
        content(max_bytes=16 << 20).inspect(folder, param="adapter")
    assert hostile.reason in caught.value.message
    assert caught.value.param == "adapter"
    # What is said of it quotes it, but not at any length.
    assert len(caught.value.message) < 600


async def test_nothing_outside_the_folder_and_nothing_pickled_is_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "adapters", write_adapter(tmp_path / "outside")
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    write_adapter(folder / "pickled").joinpath("adapter_model.bin").write_bytes(b"x")
    (write_adapter(folder / "sly") / "README.md").symlink_to("/etc/hostname")
    for path in ("link", "../outside", str(outside), ".", "", "a\0b", "pickled", "sly"):
        with pytest.raises(InvalidInput) as caught:
            await inspector(folder).inspect(path)
        assert caught.value.param == "path"


async def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    for missing in ("adapter_config.json", "adapter_model.safetensors"):
        (write_adapter(tmp_path / "none") / missing).unlink()
        with pytest.raises(InvalidInput, match=missing):
            await inspector(tmp_path).inspect("none")
    large = write_adapter(tmp_path / "large")
    with pytest.raises(TooLarge):
        content(max_bytes=100).inspect(large, param="path")


def test_shapes_of_a_model_are_read_from_its_headers(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert base_shapes(tmp_path) == {f"{STEM}.lora_A": (4, 576), f"{STEM}.lora_B": (576, 4)}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
