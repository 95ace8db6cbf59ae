"""What the fault tests measured is kept: a row that is run alone replaces itself, and nothing else."""

import json
from pathlib import Path

import pytest

from tests.faults.results import VARIABLE, merge, over, record
from tests.faults.sizes import VARIABLE as SIZES
from tests.faults.sizes import size


@pytest.fixture
def page(tmp_path: Path) -> Path:
    made = tmp_path / "faults.md"
    made.write_text("Before.\n<!-- results -->\n<!-- end of results -->\nAfter.\n")
    return made


def test_a_row_run_again_replaces_itself_and_nothing_else(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, into = tmp_path / "lines", tmp_path / "faults.json"
    monkeypatch.setenv(VARIABLE, str(lines))
    monkeypatch.setenv(SIZES, "release")
    record("rooms killed", held="lost 0", kills=30, **over("recovery", [1.0, 2.0, 12.34567]))
    record("relay killed", held="doubled 0", kills=100)
    merge(lines.read_text().splitlines(), into=into, page=page)
    lines.unlink()
    record("rooms killed", held="lost 0", kills=31)
    monkeypatch.setenv(SIZES, "ci")
    record("rooms killed", held="lost 0", kills=7)
    rows = merge(lines.read_text().splitlines(), into=into, page=page)
    assert [(one.row, one.size, one.figures["kills"]) for one in rows] == [
        ("relay killed", "release", 100),
        ("rooms killed", "ci", 7),
        ("rooms killed", "release", 31),
    ]
    assert [row["row"] for row in json.loads(into.read_text())["rows"]] == [one.row for one in rows]
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert text.count("| rooms killed |") == 2
    assert "kills 31" in text


def test_times_are_said_by_their_middle_and_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "lines"))
    record("rooms killed", held="lost 0", **over("recovery", [1.0, 2.0, 12.34567]))
    assert json.loads((tmp_path / "lines").read_text())["figures"] == {"recovery_p50_s": 2.0, "recovery_max_s": 12.346}


def test_nothing_is_written_where_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    record("rooms killed", held="lost 0")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZES, "huge")
    with pytest.raises(ValueError, match="BRAIN_FAULTS: 'huge'"):
        size(ci=1, release=2)
