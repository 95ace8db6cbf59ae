"""The whole stack as a test starts it: every room a process, on free ports, in a folder of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.local.plan import free_addresses, plan_stack
from services.local.stack import create_key

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up."""

    state_dir: Path
    base_url: str
    administrator_key: str

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor says of itself and its rooms."""
        return dict(json.loads((self.state_dir / "local.json").read_text()))

    def address(self, room: str) -> str:
        return str(self.state["rooms"][room]["address"])

    def pid(self, room: str) -> int:
        return int(self.state["rooms"][room]["pid"])

    def kill(self, room: str) -> None:
        os.kill(self.pid(room), signal.SIGKILL)

    def client(self, key: str) -> httpx.Client:
        """Return an HTTP client that calls with `key`."""
        return httpx.Client(base_url=self.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=300)

    def metric(self, room: str, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = httpx.get(f"http://{self.state['rooms'][room]['metrics']}/metrics", timeout=10).text
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(value) for value in values)

    @staticmethod
    def wait_until(true: Callable[[], bool], *, timeout_s: float = 120) -> None:
        """Wait until something holds; fail when it never does."""
        until = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < until, "it never came to be"
            time.sleep(0.1)

    def key(
        self, subject: str, *, tenant: str = "main", role: str = "contributor", groups: tuple[str, ...] = ()
    ) -> str:
        """Return a fresh API key."""
        gateway = plan_stack(state_dir=self.state_dir, addresses=free_addresses(0), inherited=os.environ).room(
            "gateway"
        )
        arguments = ["--tenant", tenant, "--subject", subject, "--role", role]
        for group in groups:
            arguments += ["--group", group]
        return asyncio.run(create_key(gateway, *arguments))


@contextmanager
def running_stack(state_dir: Path, *, engine: str, environment: dict[str, str] | None = None) -> Iterator[RunningStack]:
    """Start the stack, yield it when every room is ready, and take it down."""
    state_dir.mkdir(parents=True, exist_ok=True)
    output = state_dir / "stack.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.local", "--state-dir", str(state_dir), "--engine", engine],
            cwd=ROOT,
            env=dict(os.environ) | (environment or {}),
            stdout=out,
            stderr=out,
        )
    try:
        state_file, key_file = state_dir / "local.json", state_dir / "keys" / "administrator.key"
        until = time.monotonic() + 300
        while not (key_file.exists() and state_file.exists() and json.loads(state_file.read_text())["ready"]):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The stack did not start:\n{output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)
        yield RunningStack(state_dir, json.loads(state_file.read_text())["base_url"], key_file.read_text().strip())
    finally:
        process.terminate()
        process.wait(60)


def new_collection(client: httpx.Client, name: str) -> str:
    """Make a collection and return its id."""
    answer = client.post("/v1/vector_stores", json={"name": name})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def upload(client: httpx.Client, collection: str, name: str, content: str | bytes) -> str:
    """Put a file into a collection and return its id; what is returned was acknowledged."""
    data = content.encode() if isinstance(content, str) else content
    kept = client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "assistants"})
    assert kept.status_code == 200, kept.text
    file_id = str(kept.json()["id"])
    added = client.post(f"/v1/vector_stores/{collection}/files", json={"file_id": file_id})
    assert added.status_code == 200, added.text
    return file_id


def counts(client: httpx.Client, collection: str) -> dict[str, int]:
    """Return a collection's documents by state."""
    answer = client.get(f"/v1/vector_stores/{collection}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["file_counts"])


def indexed(client: httpx.Client, collection: str, total: int, *, timeout_s: float = 240) -> dict[str, int]:
    """Wait until every one of `total` documents is final, and return the counts."""
    RunningStack.wait_until(
        lambda: (now := counts(client, collection))["total"] == total and now["in_progress"] == 0, timeout_s=timeout_s
    )
    return counts(client, collection)
