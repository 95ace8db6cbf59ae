import json
from pathlib import Path

import pytest

from client.errors import UsageError
from client.settings import Connection, connection, remembered


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRAIN_URL", raising=False)
    monkeypatch.delenv("BRAIN_API_KEY", raising=False)


def local_stack(state_dir: Path) -> None:
    (state_dir / "keys").mkdir(parents=True)
    (state_dir / "local.json").write_text(json.dumps({"base_url": "http://local"}))
    (state_dir / "keys" / "administrator.key").write_text("local-key\n")


def test_options_win_over_the_environment_and_that_over_the_file_and_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    local_stack(tmp_path / ".brain" / "state")
    assert connection() == Connection("http://local", "local-key")
    (tmp_path / ".brain" / "client.json").write_text('{"url": "http://file/", "api_key": "file-key"}')
    assert connection() == Connection("http://file", "file-key")
    monkeypatch.setenv("BRAIN_URL", "http://environment")
    assert connection(api_key="option-key") == Connection("http://environment", "option-key")


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="--url"):
        connection()
    with pytest.raises(UsageError, match="--key"):
        connection(url="http://there")


@pytest.mark.parametrize("text", ["{", "[1]", '{"collection": 7}'])
def test_a_file_of_another_shape_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / ".brain").mkdir()
    (tmp_path / ".brain" / "client.json").write_text(text)
    with pytest.raises(UsageError, match=r"client\.json"):
        remembered("collection")
