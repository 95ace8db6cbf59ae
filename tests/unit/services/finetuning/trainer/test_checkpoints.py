"""A checkpoint is whole or not there, and only the newest are kept."""

from pathlib import Path

import pytest

from services.finetuning.trainer.checkpoints import clear_unfinished, publish


def fill(text: str) -> object:
    def write(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text(text)

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def write(folder: Path) -> None:
        (folder / "weights").write_text("half")
        seen.append(names(tmp_path))

    publish(tmp_path / "step-1", write)
    assert seen == [[".unfinished-step-1"]]
    assert names(tmp_path) == ["step-1"]


def test_what_failed_half_way_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        publish(tmp_path / "step-1", fail)
    assert names(tmp_path) == [".unfinished-step-1"]
    clear_unfinished(tmp_path)
    assert names(tmp_path) == []


def test_the_newest_three_are_kept_by_number(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for step in (8, 9, 10, 11):
        publish(tmp_path / f"step-{step}", fill(str(step)))  # type: ignore[arg-type]
    assert names(tmp_path) == ["other", "step-10", "step-11", "step-9"]


def test_a_step_that_is_reached_again_replaces_what_was_there(tmp_path: Path) -> None:
    for text in ("first", "second"):
        publish(tmp_path / "step-2", fill(text))  # type: ignore[arg-type]
    assert (tmp_path / "step-2" / "adapter" / "weights").read_text() == "second"
    assert names(tmp_path) == ["step-2"]
