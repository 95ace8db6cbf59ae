"""Every room has the same floors and the same file names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_ROOMS = {"chassis", "layout", "local", "__pycache__"}
ROOMS = [
    ROOT / "gateway",
    *sorted(path for path in (ROOT / "services").iterdir() if path.is_dir() and path.name not in NOT_ROOMS),
]
# A room's modules; each may be a file or a package of the same name.
PLAN = {
    "__init__", "__main__", "settings", "domain", "ports", "usecases", "api", "consumer", "tasks", "policy", "telemetry",
    "bootstrap", "backends", "trainer", "prompts", "migrations", "templates", "console",
}  # fmt: skip
NEEDED = {
    "__init__",
    "__main__",
    "settings",
    "domain",
    "ports",
    "usecases",
    "api",
    "policy",
    "telemetry",
    "bootstrap",
    "backends",
}
HIDING_NAMES = {"util", "utils", "common", "helper", "helpers", "base", "misc", "manager"}
PYTHON = [
    path
    for folder in ("gateway", "services", "client", "benchmarks", "examples", "scripts", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
]


def modules(room: Path) -> set[str]:
    return {
        path.stem for path in room.iterdir() if path.name != "__pycache__" and (path.is_dir() or path.suffix == ".py")
    }


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_has_what_the_plan_says_and_nothing_else(room: Path) -> None:
    assert modules(room) <= PLAN
    assert modules(room) >= NEEDED


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_it_does_and_starts_in_few_lines(room: Path) -> None:
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert len((room / "__main__.py").read_text().splitlines()) <= 30


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_only_settings_read_the_environment(room: Path) -> None:
    readers = [
        path.relative_to(ROOT)
        for path in room.rglob("*.py")
        if path.relative_to(room).parts[0] not in {"settings.py", "bootstrap.py", "bootstrap"}
        and ("os.environ" in path.read_text() or "os.getenv" in path.read_text())
    ]
    assert readers == []


def test_no_module_hides_behind_its_name() -> None:
    assert [path for path in PYTHON if path.stem in HIDING_NAMES] == []


def test_modules_are_short() -> None:
    """400 lines is a smell; more needs a decision record, which names the file."""
    records = "\n".join(path.read_text() for path in (ROOT / "docs" / "decisions").glob("*.md"))
    long = {
        str(path.relative_to(ROOT)): lines for path in PYTHON if (lines := len(path.read_text().splitlines())) > 400
    }
    assert {name: lines for name, lines in long.items() if name not in records} == {}


def test_nothing_swallows_every_exception_without_saying_why() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in PYTHON
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "except Exception" in line and "#" not in line
    ]
    assert bare == []


def test_lock_files_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*"):
        text = path.read_text()
        assert re.search(r"^\s*--(extra-)?index-url", text, re.MULTILINE) is None, path
        assert "http://" not in text, path
        assert "https://" not in text, path
