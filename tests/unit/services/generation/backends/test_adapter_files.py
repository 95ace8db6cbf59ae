import json
from pathlib import Path

import numpy as np
import pytest

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.backends.adapter_files import FolderInspector, base_shapes
from tests.tiny_adapter import write_adapter

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
SHAPES = {"model.layers.0.self_attn.q_proj": (576, 576)}


def inspector(folder: Path, **changed: object) -> FolderInspector:
    options = {"modules": frozenset({"q_proj", "v_proj"}), "shapes": SHAPES, "max_rank": 16, "max_bytes": 1 << 20}
    return FolderInspector(folder, **(options | changed))  # type: ignore[arg-type]


def halves(a: tuple[int, ...] = (4, 576), b: tuple[int, ...] = (576, 4), stem: str = STEM) -> dict[str, np.ndarray]:
    return {
        f"{stem}.lora_A.weight": np.ones(a, dtype=np.float32),
        f"{stem}.lora_B.weight": np.ones(b, dtype=np.float32),
    }


async def test_a_good_adapter_is_described(tmp_path: Path) -> None:
    write_adapter(tmp_path / "good")
    by_name = await inspector(tmp_path).inspect("good")
    assert (by_name.rank, len(by_name.digest)) == (4, 64)
    assert await inspector(tmp_path).inspect(str(tmp_path / "good")) == by_name


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "IA3"},
        {"r": 0},
        {"r": 17},
        {"r": "4"},
        {"r": True},
        {"lora_alpha": 0},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"target_modules": ["lm_head"]},
        {"target_modules": None},
        {"rank_pattern": {"q_proj": 8}},
    ],
    ids=str,
)
async def test_configurations_that_cannot_be_served_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    write_adapter(tmp_path / "bad", config=config)
    with pytest.raises(InvalidInput) as caught:
        await inspector(tmp_path).inspect("bad")
    assert caught.value.param == "path"


@pytest.mark.parametrize(
    "tensors",
    [
        halves(a=(8, 576)),
        halves(a=(4, 64)),
        halves(b=(64, 4)),
        halves(a=(4, 576, 1)),
        halves(stem="base_model.model.model.layers.99.self_attn.q_proj"),
        halves(stem="base_model.model.lm_head"),
        halves(stem="something.else"),
        dict(list(halves().items())[:1]),
        halves() | {f"{STEM}.lora_A.weight": np.full((4, 576), np.nan, dtype=np.float32)},
        halves() | {f"{STEM}.lora_A.weight": np.full((4, 576), np.inf, dtype=np.float16)},
        halves() | {f"{STEM}.lora_A.weight": np.ones((4, 576), dtype=np.float64)},
    ],
    ids=range(11),
)
async def test_weights_that_would_break_the_engine_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    write_adapter(tmp_path / "bad", tensors=tensors)
    with pytest.raises(InvalidInput):
        await inspector(tmp_path).inspect("bad")


async def test_nothing_outside_the_folder_and_nothing_pickled_is_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "adapters", write_adapter(tmp_path / "outside")
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    write_adapter(folder / "pickled").joinpath("adapter_model.bin").write_bytes(b"x")
    (write_adapter(folder / "sly") / "README.md").symlink_to("/etc/hostname")
    for path in ("link", "../outside", str(outside), ".", "", "a\0b", "pickled", "sly"):
        with pytest.raises(InvalidInput):
            await inspector(folder).inspect(path)


async def test_broken_and_oversized_files_are_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path / "cut").joinpath("adapter_model.safetensors").write_bytes(b"\xff" * 40)
    write_adapter(tmp_path / "json").joinpath("adapter_config.json").write_text("[" * 100_000)
    (write_adapter(tmp_path / "none") / "adapter_model.safetensors").unlink()
    for path in ("cut", "json", "none"):
        with pytest.raises(InvalidInput):
            await inspector(tmp_path).inspect(path)
    write_adapter(tmp_path / "large")
    with pytest.raises(TooLarge):
        await inspector(tmp_path, max_bytes=100).inspect("large")


def test_shapes_of_a_model_are_read_from_its_headers(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert base_shapes(tmp_path) == {f"{STEM}.lora_A": (4, 576), f"{STEM}.lora_B": (576, 4)}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
