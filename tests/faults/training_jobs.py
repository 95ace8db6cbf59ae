"""Training jobs whose trainers and workers are killed: started over HTTP, looked at from outside."""

import contextlib
import json
from typing import Any

import httpx
import psutil

from examples.generate import generate

__all__ = ["create", "events", "job_of", "steps", "trainers"]


def trainers(room_pid: int) -> list[psutil.Process]:
    """Return the trainers that a process of the room started."""
    room = psutil.Process(room_pid)
    found = []
    for one in room.children(recursive=True):
        # It may end while it is looked at.
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one] if "services.finetuning.trainer" in " ".join(one.cmdline()) else []
    return found


def events(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    """Everything that happened to a job, oldest first."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get(f"/v1/fine_tuning/jobs/{job}/events", params={"limit": 100, "after": after}).json()
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]
        after = page["last_id"]


def steps(client: httpx.Client, job: str) -> list[int]:
    """The steps that were told of, in the order of telling; evaluations say theirs again."""
    return [event["data"]["step"] for event in events(client, job) if event["type"] == "metrics"]


def create(client: httpx.Client, **brain: Any) -> str:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": fact.answer}]}
        for document in generate(5, 8)
        for fact in document.facts
        for asked in fact.phrasings
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.post("/v1/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "fine-tune"}).json()
    answer = client.post(
        "/v1/fine_tuning/jobs",
        json={"model": "default", "training_file": file["id"], "suffix": "killed", "seed": 3, "brain": brain},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/fine_tuning/jobs/{job}").json())
