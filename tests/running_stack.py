"""The whole stack as a test sees it: every room a process, on free ports, in a folder of its own."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.events.log import EventLog, open_event_log
from services.local.child import ChildStack, child_stack
from tests.cluster_stack import back_ends

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class RunningStack(ChildStack):
    """A stack that is up, with what tests ask of it."""

    def client(self, key: str) -> httpx.Client:
        """Return an HTTP client that calls with `key`."""
        return httpx.Client(base_url=self.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=300)

    def metric(self, room: str, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = httpx.get(f"http://{self.state['rooms'][room]['metrics']}/metrics", timeout=10).text
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(value) for value in values)

    def open_log(self) -> EventLog:
        """Return the event log that the rooms share."""
        return open_event_log(
            self.environment.get("BRAIN_CHAT_EVENTS_URL", f"sqlite:///{self.state_dir / 'events.db'}"),
            compacted=["brain.adapter.v1"],
        )

    def open_blobs(self) -> BlobStore:
        """Return the store that the rooms share."""
        return open_blobs(self.environment.get("BRAIN_CHAT_BLOBS_URL", f"file://{self.state_dir / 'blobs'}"))

    @staticmethod
    def wait_until(true: Callable[[], bool], *, timeout_s: float = 120) -> None:
        """Wait until something holds; fail when it never does."""
        until = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < until, "it never came to be"
            time.sleep(0.1)


@contextmanager
def running_stack(state_dir: Path, *, engine: str, environment: dict[str, str] | None = None) -> Iterator[RunningStack]:
    """Start the stack, yield it when every room is ready, and take it down.

    Its back ends are those of a cluster where its servers run (`make test-cluster`), else the embedded ones.
    """
    with (
        back_ends(state_dir / "secrets") as chosen,
        child_stack(state_dir, engine=engine, environment=chosen | (environment or {})) as child,
    ):
        yield RunningStack(child.state_dir, child.base_url, child.administrator_key, child.environment)


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
