"""What somebody sends as training data or as an adapter is refused with a reason, and nobody else notices."""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from services.finetuning.domain.rows import RowKind
from tests.hostile_adapters import HOSTILE as HOSTILE_ADAPTERS
from tests.running_stack import RunningStack
from tests.unit.services.finetuning.domain.test_hostile_rows import HOSTILE as HOSTILE_ROWS

REQUESTS = 100
STAGES = {
    RowKind.TEXT: "continued_pretraining",
    RowKind.CHAT: "supervised",
    RowKind.PREFERENCE: "dpo",
    RowKind.KTO: "kto",
}
# Those that are hostile by size are so to the small limits of the unit test; here sizes are the room's own.
ROWS = {
    name: (STAGES[kind], data)
    for name, (kind, data, code, _, _) in HOSTILE_ROWS.items()
    if kind in STAGES and data and code not in {"line_too_long", "file_too_large", "too_many_rows"}
}
# What an archive cannot be refused for without the engine's word is left to the contract of adapters.
ADAPTERS = [hostile for hostile in HOSTILE_ADAPTERS if not hostile.shapes][:30]


@contextmanager
def base_requests(stack: RunningStack) -> Iterator[list[str]]:
    """Ask the base model again and again, until at least `REQUESTS` were answered; yields what went wrong."""
    wrong: list[str] = []
    enough, stop = threading.Event(), threading.Event()
    answered = 0

    def ask() -> None:
        nonlocal answered
        with stack.client(stack.administrator_key) as client:
            while not (stop.is_set() and enough.is_set()):
                answer = client.post(
                    "/v1/chat/completions",
                    json={
                        "model": "default",
                        "max_completion_tokens": 8,
                        "messages": [{"role": "user", "content": "Hi"}],
                    },
                )
                if answer.status_code != 200 or not answer.json()["choices"][0]["message"]["content"]:
                    wrong.append(answer.text)
                answered += 1
                if answered >= REQUESTS:
                    enough.set()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield wrong
    finally:
        stop.set()
        asking.join(120)
    assert answered >= REQUESTS


def keep(client: httpx.Client, name: str, data: bytes) -> str:
    answer = client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def packed(config: bytes, weights: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("adapter_config.json", config)
        target.writestr("adapter_model.safetensors", weights)
    return archive.getvalue()


def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 30
    assert len(ADAPTERS) >= 20


@pytest.mark.timeout(600)
def test_hostile_datasets_and_adapters_are_refused_while_the_base_is_asked(scripted_stack: RunningStack) -> None:
    stack = scripted_stack
    with stack.client(stack.key("tara", role="trainer")) as client, base_requests(stack) as wrong:
        before = {model["id"] for model in client.get("/v1/models").json()["data"]}
        jobs = {}
        for name, (stage, data) in ROWS.items():
            created = client.post(
                "/v1/fine_tuning/jobs",
                json={"model": "default", "training_file": keep(client, "rows.jsonl", data), "brain": {"stage": stage}},
            )
            assert created.status_code == 200, (name, created.text)
            jobs[name] = created.json()["id"]
        for hostile in ADAPTERS:
            answer = client.post(
                "/brain/v1/adapters",
                json={
                    "file_id": keep(client, "adapter.zip", packed(hostile.config, hostile.weights)),
                    "suffix": "hostile",
                },
            )
            assert 400 <= answer.status_code < 500, (hostile.name, answer.status_code, answer.text)
            assert answer.json()["error"]["message"], hostile.name
        for name, job in jobs.items():
            stack.wait_until(
                lambda one=job: client.get(f"/v1/fine_tuning/jobs/{one}").json()["status"] in {"failed", "succeeded"}  # type: ignore[misc]
            )
            final = client.get(f"/v1/fine_tuning/jobs/{job}").json()
            assert final["status"] == "failed", name
            assert final["error"]["code"] in {"invalid_training_file", "file_not_found"}, (name, final["error"])
            assert final["error"]["param"] == "training_file", name
            assert final["brain"]["report"]["trainable"] is False, name
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == before
    assert wrong == []
    assert stack.ready


def test_an_archive_that_is_none_or_hides_something_is_refused(scripted_stack: RunningStack) -> None:
    stack = scripted_stack
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(70):
            target.writestr(f"{number}.txt", b"0" * 1000)
    pickled = io.BytesIO()
    with zipfile.ZipFile(pickled, "w") as target:
        target.writestr("adapter_config.json", b"{}")
        target.writestr("../../adapter_model.bin", b"\x80\x04cos\nsystem\n.")
    with stack.client(stack.key("tara", role="trainer")) as client:
        for name, data, reason in (
            ("no archive", b"just text", "neither a ZIP nor a tar"),
            ("too many entries", bomb.getvalue(), "more than 64 entries"),
            ("pickled weights", pickled.getvalue(), "only safetensors"),
            ("half an archive", packed(b"{}", b"x")[:40], "neither a ZIP nor a tar"),
        ):
            answer = client.post("/brain/v1/adapters", json={"file_id": keep(client, "a.zip", data), "suffix": "x"})
            assert answer.status_code == 400, (name, answer.text)
            assert reason in answer.json()["error"]["message"], name
