"""What stands in the way of a start is said in one sentence, before any room is started."""

import fcntl
import socket
from pathlib import Path

import pytest

from services.local import stack

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture(autouse=True)
def _no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    # It belongs to a process, and would outlive the test's standard error.
    monkeypatch.setattr(stack, "start_logging", lambda *_, **__: None)


async def said(capsys: pytest.CaptureFixture[str], state_dir: Path, *, port: int = 0) -> str:
    """Return what a start that fails says."""
    assert await stack.run_stack(state_dir=state_dir, http_port=port, environment={}, timeout_s=60) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert "starting" not in captured.err
    return " ".join(captured.err.split())


async def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        error = await said(capsys, tmp_path, port=port)
    assert error == f"port: {port} cannot be listened on (Address already in use); choose another, or 0 for a free one."


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: int) -> None:
    assert f"port: {port} cannot be listened on" in await said(capsys, tmp_path, port=port)


async def test_a_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    error = await said(capsys, tmp_path / "file" / "state")
    assert error.startswith("state-dir:")
    assert "cannot be written to (Not a directory)" in error


async def test_a_folder_that_another_stack_runs_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        error = await said(capsys, tmp_path)
    assert error.startswith("Another stack is running on")
