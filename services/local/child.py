"""The stack as a child process of a program: the tour, the tests, the benchmarks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chassis.errors import Unavailable
from services.local.plan import free_addresses, plan_stack
from services.local.stack import create_key_now

__all__ = ["ChildStack", "child_stack"]


@dataclass(frozen=True, slots=True)
class ChildStack:
    """A stack that is up.

    Attributes:
        state_dir: Where it keeps everything.
        base_url: Address of the gateway.
        administrator_key: API key of the first administrator.
        environment: Settings that it was started with, on top of this process's environment.
    """

    state_dir: Path
    base_url: str
    administrator_key: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor says of itself and its rooms."""
        return dict(json.loads((self.state_dir / "local.json").read_text()))

    @property
    def ready(self) -> bool:
        """Whether every room can do its duty."""
        return bool(self.state["ready"])

    def address(self, room: str) -> str:
        """Return where a room listens."""
        return str(self.state["rooms"][room]["address"])

    def pid(self, room: str) -> int:
        """Return a room's process id."""
        return int(self.state["rooms"][room]["pid"])

    def kill(self, room: str) -> None:
        """End a room as a crash does."""
        os.kill(self.pid(room), signal.SIGKILL)

    def key(
        self, subject: str, *, tenant: str = "main", role: str = "contributor", groups: tuple[str, ...] = ()
    ) -> str:
        """Return a fresh API key, made by the gateway's own command."""
        inherited = os.environ | self.environment
        plan = plan_stack(state_dir=self.state_dir, addresses=free_addresses(0), inherited=inherited)
        arguments = ["--tenant", tenant, "--subject", subject, "--role", role]
        for group in groups:
            arguments += ["--group", group]
        return create_key_now(plan.room("gateway"), *arguments)


@contextmanager
def child_stack(
    state_dir: Path, *, engine: str = "", environment: Mapping[str, str] | None = None, timeout_s: float = 420
) -> Iterator[ChildStack]:
    """Start the stack in a folder, yield it when every room is ready, and take it down.

    Args:
        state_dir: Folder of its own.
        engine: `vllm://` or `scripted://?mode=…`; empty for the room's default.
        environment: Settings on top of this process's environment.
        timeout_s: How long the start may take; the first one makes the packaged model.

    Raises:
        Unavailable: It did not start; its last output is in the message.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    output = state_dir / "stack.out"
    with output.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [
                *(sys.executable, "-m", "services.local", "--state-dir", str(state_dir)),
                *("--engine", engine, "--timeout", str(timeout_s)),
            ],
            cwd=Path(__file__).resolve().parents[2],
            env=os.environ | dict(environment or {}),
            stdout=out,
            stderr=out,
        )
    try:
        state_file, key_file = state_dir / "local.json", state_dir / "keys" / "administrator.key"
        until = time.monotonic() + timeout_s
        while not (key_file.exists() and state_file.exists() and json.loads(state_file.read_text())["ready"]):
            if process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"The stack did not start:\n{output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)
        state = json.loads(state_file.read_text())
        yield ChildStack(state_dir, str(state["base_url"]), key_file.read_text().strip(), dict(environment or {}))
    finally:
        process.terminate()
        process.wait(90)
