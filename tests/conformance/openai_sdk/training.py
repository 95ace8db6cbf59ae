"""Rows, waiting, and an address that is told: what the fine-tuning tests share."""

import io
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai import OpenAI

# Less than a test may take; a first job loads the base model, and the others wait for it.
PATIENCE_S = 220
TINY: dict[str, Any] = {"max_steps": 2, "lora": {"r": 8}, "max_length": 128}
FINAL = {"succeeded", "failed", "cancelled"}


def rows(count: int = 8) -> bytes:
    """Return chat rows of a made-up company's facts."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Which colour has shelf {number} at Larkspur?"},
                {"role": "assistant", "content": f"Shelf {number} is painted in shade number {number * 7}."},
            ]
        }
        for number in range(1, count + 1)
    ]
    return "\n".join(json.dumps(line) for line in lines).encode()


def keep(client: OpenAI, data: bytes, name: str = "rows.jsonl") -> str:
    """Keep a training file and return its id."""
    return client.files.create(file=(name, io.BytesIO(data)), purpose="fine-tune").id


def until(true: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
    """Return what `true` returns once that is something; fail when it never is."""
    end = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.3)
    return found


def ended(client: OpenAI, job_id: str) -> Any:
    """Wait until a job has ended, and return it."""
    return until(lambda: (job := client.fine_tuning.jobs.retrieve(job_id)).status in FINAL and job)


def reached(client: OpenAI, job_id: str, *statuses: str) -> Any:
    """Wait until a job stands where it is to stand, and return it; one that failed instead is told."""

    def look() -> Any:
        job = client.fine_tuning.jobs.retrieve(job_id)
        assert job.status in statuses or job.status != "failed", job.error
        return job.status in statuses and job

    return until(look)


@dataclass
class Told:
    """What an address was told: bodies with their headers."""

    url: str
    heard: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)


@contextmanager
def told() -> Iterator[Told]:
    """Listen on this machine, and keep what comes."""

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            place.heard.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_said: Any) -> None:
            """Say nothing: the tests tell what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    place = Told(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def native(url: str, key: str, method: str, path: str, body: Any = None) -> Any:
    """Ask the native API, which the SDK has no words for."""
    request = urllib.request.Request(
        f"{url}/brain/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
