"""What docs/architecture.md names is there: a newcomer can follow it by file and by name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
_QUOTED = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]+\.py")
_NAME = re.compile(r"[A-Z]\w+|[A-Z]\w+\.\w+")
# Words that stand quoted and are no names of ours.
_OTHERS = {"AsyncLLM", "Caller", "CHUNKED", "INDEXED", "FAILED"}


def _code() -> dict[str, str]:
    folders = ("gateway", "services", "client", "protos/brain")
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".proto"}
    }


CODE = _code()
QUOTED = sorted(set(_QUOTED.findall(_DOCUMENT)))
FILES = [name for name in QUOTED if _FILE.fullmatch(name)]
NAMES = [name for name in QUOTED if _NAME.fullmatch(name) and name not in _OTHERS]


def test_it_names_enough_to_be_followed() -> None:
    assert len(FILES) >= 30
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_it_names_is_there(name: str) -> None:
    assert any(path == name or path.endswith(f"/{name}") for path in CODE), name


@pytest.mark.parametrize("name", NAMES)
def test_every_class_and_method_that_it_names_is_there(name: str) -> None:
    owner, _, method = name.partition(".")
    texts = [text for text in CODE.values() if re.search(rf"^(?:class|message|service) {owner}\b", text, re.MULTILINE)]
    assert texts, name
    assert not method or any(f"def {method}(" in text for text in texts), name
