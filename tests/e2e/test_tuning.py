"""Tuning through the whole stack: from documents to rows, from rows to an adapter that is served, and what a deletion does."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from examples.generate import generate
from tests.running_stack import RunningStack, indexed, new_collection

# A process that trains loads the base model first: seconds on an idle machine, a minute on a busy one.
pytestmark = pytest.mark.timeout(900)

STEPS = 4
ENDS = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True)
class Works:
    """A company whose documents are for its staff, and people who train, ask, and have no rights."""

    stack: RunningStack
    trainer: httpx.Client
    staff: httpx.Client
    stranger: httpx.Client
    collection: str

    def job(self, identity: str) -> dict[str, Any]:
        return dict(self.trainer.get(f"/v1/fine_tuning/jobs/{identity}").json())

    def create(self, body: dict[str, Any]) -> str:
        answer = self.trainer.post("/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def reached(self, identity: str, *statuses: str) -> dict[str, Any]:
        """Wait until a job stands there, or has ended otherwise."""
        self.stack.wait_until(lambda: self.job(identity)["status"] in {*statuses, *ENDS}, timeout_s=600)
        job = self.job(identity)
        assert job["status"] in statuses, job["error"]
        return job

    def rows(self, file_id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.trainer.get(f"/v1/files/{file_id}/content").text.splitlines()]

    def ask(self, client: httpx.Client, model: str) -> httpx.Response:
        return client.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "Who leads it?"}], "max_tokens": 8},
        )

    def build(self, kind: str, **more: Any) -> dict[str, Any]:
        body = {"name": kind, "kind": kind, "collections": [self.collection], "seed": 3, **more}
        answer = self.trainer.post("/brain/v1/datasets", json=body)
        assert answer.status_code == 202, answer.text
        identity = answer.json()["id"]

        def now() -> dict[str, Any]:
            return dict(self.trainer.get(f"/brain/v1/datasets/{identity}").json())

        self.stack.wait_until(lambda: now()["status"] != "building", timeout_s=240)
        assert now()["status"] == "ready", now()["error"]
        return now()

    def listed(self, client: httpx.Client) -> list[str]:
        return [one["id"] for one in client.get("/v1/models").json()["data"]]

    def adapter(self, name: str) -> dict[str, Any]:
        return dict(self.trainer.get(f"/brain/v1/adapters/{name}").json())


@pytest.fixture(scope="module")
def works(scripted_stack: RunningStack) -> Iterator[Works]:
    stack = scripted_stack
    keys = [
        stack.key("works-tara", role="trainer", groups=("works",)),
        stack.key("works-vera", role="viewer", groups=("works",)),
        stack.key("works-xeno", role="viewer", groups=("sales",)),
    ]
    clients = [stack.client(key) for key in keys]
    collection = new_collection(clients[0], "works")
    made = generate(29, 24)
    for one in made:
        query = {"collection": collection, "filename": one.key.rpartition("/")[2], "key": one.key}
        answer = clients[0].post(
            "/brain/v1/documents", params=query | {"access": "group:works"}, content=one.text.encode()
        )
        assert answer.status_code in {200, 202}, answer.text
    assert indexed(clients[0], collection, len(made))["completed"] == len(made)
    yield Works(stack, clients[0], clients[1], clients[2], collection)
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def questions(works: Works) -> dict[str, Any]:
    """Question rows of the collection's facts."""
    return works.build("questions", max_rows=24, phrasings=2, held_out_share=0.2)


@pytest.fixture(scope="module")
def body(questions: dict[str, Any]) -> dict[str, Any]:
    """A small job on them, with a checkpoint and an evaluation at each step."""
    return {
        "model": "default",
        "training_file": questions["training_file"],
        "validation_file": questions["held_out_file"],
        "suffix": "works",
        "seed": 5,
        "metadata": {"team": "works"},
        "brain": {
            "max_steps": STEPS,
            "batch_size": 2,
            "checkpoint_every": 1,
            "evaluate_every": 1,
            "lora": {"r": 8},
            "max_length": 128,
        },
    }


@pytest.fixture(scope="module")
def trained(works: Works, body: dict[str, Any]) -> dict[str, Any]:
    """A job that was paused on its way, went on, and has succeeded."""
    identity = works.create(body)
    works.stack.wait_until(
        lambda: (job := works.job(identity))["brain"]["step"] >= 1 or job["status"] in ENDS, timeout_s=600
    )
    asked = works.trainer.post(f"/v1/fine_tuning/jobs/{identity}/pause")
    assert asked.status_code == 200, asked.text
    paused = works.reached(identity, "paused")
    assert 1 <= paused["brain"]["step"] < STEPS
    assert works.trainer.post(f"/v1/fine_tuning/jobs/{identity}/resume").json()["status"] in {"queued", "running"}
    job = works.reached(identity, "succeeded")
    # Whoever reads of the success can ask the model with the next request.
    assert works.ask(works.trainer, job["fine_tuned_model"]).status_code == 200
    return job


def test_reading_rows_and_questions_come_from_the_documents(works: Works, questions: dict[str, Any]) -> None:
    ids = {one["id"] for one in works.trainer.get("/brain/v1/documents", params={"collection": works.collection, "limit": 100}).json()["data"]}  # fmt: skip
    reading = works.build("raft", max_rows=12, passages_per_row=3)
    for dataset in (reading, questions):
        rows = works.rows(dataset["training_file"])
        assert len(rows) == dataset["rows"] > 4
        sources = [source for row in rows for source in row["brain"]["sources"]]
        assert {source["document"] for source in sources} <= ids
        assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
        held_out = works.rows(dataset["held_out_file"])
        assert len(held_out) == dataset["held_out_rows"] > 0
    gone = works.trainer.delete(f"/brain/v1/datasets/{reading['id']}")
    assert gone.json() == {"id": reading["id"], "deleted": True}
    assert works.trainer.get(f"/v1/files/{reading['training_file']}").status_code == 404


def test_a_job_is_checked_and_estimated_before_it_is_created(works: Works, body: dict[str, Any]) -> None:
    before = len(works.trainer.get("/v1/fine_tuning/jobs", params={"limit": 100}).json()["data"])
    checked = works.trainer.post("/brain/v1/tuning/check", json=body)
    assert checked.status_code == 200, checked.text
    report = checked.json()["report"]
    assert checked.json()["trainable"] is report["trainable"] is True
    estimate = report["estimate"]
    assert estimate["total_steps"] == STEPS
    assert min(estimate["estimated_s"], estimate["seconds_per_step"], estimate["tokens_per_s"]) > 0
    assert report["numbers"]["rows"] > 4
    after = works.trainer.get("/v1/fine_tuning/jobs", params={"limit": 100}).json()["data"]
    assert len(after) == before


def test_rows_that_cannot_be_trained_on_are_told_by_line(works: Works, body: dict[str, Any]) -> None:
    rows = works.rows(body["training_file"])[:4]
    rows[1]["messages"] = rows[1]["messages"][:-1]
    data = "\n".join(json.dumps(row) for row in rows)
    kept = works.trainer.post("/v1/files", files={"file": ("bad.jsonl", data)}, data={"purpose": "fine-tune"}).json()
    asked = body | {"training_file": kept["id"], "validation_file": None, "skip_dry_run": True}
    checked = works.trainer.post("/brain/v1/tuning/check", json=asked).json()
    assert checked["trainable"] is False
    (error,) = [one for one in checked["report"]["findings"] if one["severity"] == "error"]
    assert error["lines"] == [2]


def test_a_job_tells_its_way_and_what_it_measured(works: Works, trained: dict[str, Any]) -> None:
    path = f"/v1/fine_tuning/jobs/{trained['id']}"
    events = works.trainer.get(f"{path}/events", params={"limit": 100}).json()["data"]
    said = [event["message"] for event in reversed(events)]
    for word in ("Created", "Validating", "Files validated", "started", "was paused", "was resumed", "success"):
        assert any(word in one for one in said), word
    measured = [event["data"] for event in events if event["type"] == "metrics"]
    assert {one["step"] for one in measured if "train_loss" in one} == set(range(1, STEPS + 1))
    assert any(one.get("valid_loss", 0) > 0 for one in measured)
    result = works.trainer.get(f"/v1/files/{trained['result_files'][0]}/content").text
    table = list(csv.DictReader(result.splitlines()))
    assert [row["step"] for row in table] == [str(step) for step in range(1, STEPS + 1)]
    assert all(float(row["train_loss"]) > 0 for row in table)
    assert trained["trained_tokens"] > 0


def test_every_checkpoint_answers_under_its_name(works: Works, trained: dict[str, Any]) -> None:
    found = works.trainer.get(f"/v1/fine_tuning/jobs/{trained['id']}/checkpoints").json()["data"]
    assert [one["step_number"] for one in found] == [4, 3, 2]
    assert found[0]["fine_tuned_model_checkpoint"] == trained["fine_tuned_model"]
    for one in found:
        name = one["fine_tuned_model_checkpoint"]
        assert name in works.listed(works.staff)
        assert works.ask(works.staff, name).json()["model"] == name


def test_the_registry_knows_what_an_adapter_came_from(
    works: Works, trained: dict[str, Any], questions: dict[str, Any]
) -> None:
    adapter = works.adapter(trained["fine_tuned_model"])
    assert (adapter["state"], adapter["job"], adapter["seed"]) == ("published", trained["id"], 5)
    # Everybody was wanted; those who may read every document that it saw are left.
    assert adapter["access"] == ["group:works", "user:works-tara"]
    learned = {source["document"] for row in works.rows(questions["training_file"]) for source in row["brain"]["sources"]}  # fmt: skip
    documents = {one["id"] for one in adapter["sources"] if one["kind"] == "document"}
    assert learned <= documents
    assert adapter["settings"]["stage"] == "supervised"
    assert adapter["metrics"]["train_loss"] > 0
    of_document = works.trainer.get("/brain/v1/adapters", params={"document": next(iter(learned)), "limit": 100}).json()
    assert trained["fine_tuned_model"] in [one["name"] for one in of_document["data"]]


def test_an_adapter_does_not_exist_for_whom_it_is_not_for(works: Works, trained: dict[str, Any]) -> None:
    name = trained["fine_tuned_model"]
    assert name in works.listed(works.staff)
    assert name not in works.listed(works.stranger)
    assert works.stranger.get(f"/v1/models/{name}").status_code == 404
    refused = works.ask(works.stranger, name)
    unknown = works.ask(works.stranger, name[:-1] + "0")
    assert refused.status_code == unknown.status_code == 404
    # Nor can it be told from one that nobody made.
    assert refused.json()["error"] | {"message": ""} == unknown.json()["error"] | {"message": ""}
    assert works.stranger.get(f"/brain/v1/adapters/{name}").status_code in {403, 404}


def test_an_alias_is_moved_and_moved_back(works: Works, trained: dict[str, Any]) -> None:
    name = trained["fine_tuned_model"]
    older = f"{name}:ckpt-step-2"
    for candidate in (older, name):
        asked = {"alias": "works-desk", "candidate": candidate, "canary_weight": 0, "skip_gate_reason": "for a test"}
        opened = works.trainer.post("/brain/v1/promotions", json=asked)
        assert (opened.status_code, opened.json()["state"]) == (201, "promoted"), opened.text
        # The next request is answered by it, and says which model it was.
        assert works.ask(works.staff, "works-desk").json()["model"] == candidate
    assert works.ask(works.stranger, "works-desk").status_code == 404
    back = works.trainer.post("/brain/v1/aliases/works-desk/rollback", json={"reason": "for a test"})
    assert back.json()["state"] == "rolled_back", back.text
    assert works.ask(works.staff, "works-desk").json()["model"] == older
    assert works.adapter(older)["aliases"] == ["works-desk"]
    assert works.trainer.delete(f"/v1/models/{older}").status_code == 409


def test_a_deletion_blocks_before_the_next_request_and_the_rest_is_trained_again(
    works: Works, trained: dict[str, Any]
) -> None:
    name = trained["fine_tuned_model"]
    family = {name, f"{name}:ckpt-step-2", f"{name}:ckpt-step-3"}
    document = next(one["id"] for one in works.adapter(name)["sources"] if one["kind"] == "document")
    deleted = works.trainer.delete(f"/brain/v1/documents/{document}")
    assert deleted.status_code == 202, deleted.text
    assert set(deleted.json()["adapters"]) == family
    for model in (*family, "works-desk"):
        assert works.ask(works.staff, model).status_code == 403
    assert not family & set(works.listed(works.staff))
    shown = works.adapter(name)
    assert (shown["state"], [one["id"] for one in shown["sources"] if one["withdrawn"]]) == ("blocked", [document])

    again = works.trainer.post(f"/brain/v1/adapters/{name}/retrain")
    assert again.status_code == 202, again.text
    assert again.json()["rows_left_out"] > 0
    (identity,) = again.json()["jobs"]
    job = works.reached(identity, "succeeded")
    assert job["metadata"] == {"team": "works", "retrains": trained["id"]}
    new = job["fine_tuned_model"]
    assert works.ask(works.staff, new).json()["model"] == new
    remaining = {one["id"] for one in works.adapter(new)["sources"] if one["kind"] == "document"}
    assert remaining == {one["id"] for one in shown["sources"] if one["kind"] == "document"} - {document}

    moved = {
        "alias": "works-desk",
        "candidate": new,
        "canary_weight": 0,
        "skip_gate_reason": "its forerunner is blocked",
    }
    assert works.trainer.post("/brain/v1/promotions", json=moved).json()["state"] == "promoted"
    gone = works.trainer.delete(f"/v1/models/{name}")
    assert gone.json() == {"id": name, "object": "model", "deleted": True}
    assert works.trainer.get(f"/brain/v1/adapters/{name}").status_code == 404
    works.stack.wait_until(lambda: works.ask(works.staff, name).status_code == 404, timeout_s=30)
    assert works.ask(works.staff, "works-desk").json()["model"] == new
