"""`brain dataset …`, `brain adapters …`, promotions, aliases and webhooks."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from client import dataset_commands
from tests.unit.client.wire import Wire, printed, run

NAME = "ft:base:acme:support:1"
ADAPTER: dict[str, Any] = {
    "name": NAME,
    "version": 3,
    "state": "blocked",
    "reason": "document_deleted",
    "rank": 16,
    "parent": None,
    "base_model": "base",
    "aliases": ["support"],
    "access": ["group:hr"],
}
PROMOTION = {
    "id": "promo_1",
    "alias": "support",
    "candidate": NAME,
    "previous": None,
    "state": "gated",
    "history": [{"at": "2026-11-26T12:00:00Z", "state": "gated", "reason": "opened", "by": None}],
}


def dataset(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "ds_1",
        "name": "Handbook",
        "status": status,
        "error": None,
        "rows": 0,
        "held_out_rows": 0,
        "documents": 0,
        "judgements": 0,
        "training_file": None,
        "held_out_file": None,
        "spec": {"kind": "raft"},
        "report": None,
    } | more


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_URL", "http://brain.test")
    monkeypatch.setenv("BRAIN_API_KEY", "key-1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(dataset_commands, "_LOOK_EVERY_S", 0.0)


def test_a_dataset_is_waited_for_and_shown(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/datasets", dataset("building"), 202)
    states = iter([dataset("building"), dataset("ready", rows=36, training_file="file-1", report={"left_out": 4})])
    wire.on_call("GET", "/brain/v1/datasets/ds_1", lambda _request: httpx.Response(200, json=next(states)))
    result = run(wire, "dataset", "build", "raft", "-c", "vs_1", "--max-rows", "40", "--gold-share", "0")
    assert result.exit_code == 0
    for shown in ("ready", "36", "file-1", "left out"):
        assert shown in result.output
    assert wire.body(0) == {"name": "raft", "kind": "raft", "collections": ["vs_1"], "max_rows": 40, "gold_share": 0}


def test_a_dataset_that_fails_says_so_by_the_exit_status(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/datasets", dataset("failed", error="No document is searchable."))
    result = run(wire, "dataset", "build", "raft", "-c", "vs_1")
    assert result.exit_code == 1
    assert "No document is searchable." in result.output
    wire.on("POST", "/brain/v1/datasets", dataset("building"))
    assert run(wire, "dataset", "build", "raft", "-c", "vs_1", "--no-wait").exit_code == 0


def test_a_file_is_imported(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\n")
    wire.on("POST", "/v1/files", {"id": "file-3"})
    wire.on("POST", "/brain/v1/datasets", dataset("ready"))
    assert run(wire, "dataset", "import", "rows.csv", "--format", "csv").exit_code == 0
    assert wire.body() == {"name": "rows.csv", "kind": "import", "file_id": "file-3", "format": "csv"}


def test_datasets_are_listed_shown_and_deleted(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/datasets", {"data": [dataset("ready")], "has_more": False, "next": None})
    assert "Handbook" in run(wire, "dataset", "list").output
    wire.on("GET", "/brain/v1/datasets/ds_1", dataset("ready"))
    assert printed(run(wire, "dataset", "show", "ds_1", "--json"))["id"] == "ds_1"
    wire.on("DELETE", "/brain/v1/datasets/ds_1", {"id": "ds_1", "deleted": True})
    assert "ds_1 is deleted" in run(wire, "dataset", "delete", "ds_1").output


def test_adapters_are_listed_with_why_they_are_refused(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/adapters", {"data": [ADAPTER], "has_more": False, "next": None})
    shown = run(wire, "adapters", "list", "--document", "doc_1").output
    for part in (NAME, "blocked (document_deleted)", "support", "group:hr"):
        assert part in shown
    assert wire.requests[-1].url.params["document"] == "doc_1"


def test_an_adapter_is_shown_with_what_it_learned_from(wire: Wire) -> None:
    source = {"kind": "document", "id": "doc_1", "version": 2, "rows": 5, "withdrawn": True}
    wire.on("GET", f"/brain/v1/adapters/{NAME}", ADAPTER | {"sources": [source]})
    shown = run(wire, "adapters", "show", NAME).output
    for part in (NAME, "doc_1", "withdrawn", "document_deleted"):
        assert part in shown


def test_an_adapter_is_blocked_accepted_retrained_and_deleted(wire: Wire) -> None:
    for verb in ("block", "accept"):
        wire.on("POST", f"/brain/v1/adapters/{NAME}/{verb}", ADAPTER)
        assert "is blocked" in run(wire, "adapters", verb, NAME, "--reason", "Checked.").output
        assert wire.body() == {"reason": "Checked."}
    assert run(wire, "adapters", "accept", NAME).exit_code == 2  # nothing is served again without a reason
    wire.on("POST", f"/brain/v1/adapters/{NAME}/retrain", {"jobs": ["ftjob-1", "ftjob-2"], "rows_left_out": 4}, 202)
    again = run(wire, "adapters", "retrain", NAME).output
    assert "4 rows are left out" in again
    assert again.index("ftjob-1") < again.index("ftjob-2")
    wire.on("DELETE", f"/brain/v1/adapters/{NAME}", {"name": NAME, "deleted": True})
    assert "is deleted" in run(wire, "adapters", "delete", NAME).output


def test_an_adapter_is_imported(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "adapter.zip").write_bytes(b"PK")
    wire.on("POST", "/v1/files", {"id": "file-4"})
    wire.on("POST", "/brain/v1/adapters", ADAPTER | {"state": "published"}, 201)
    result = run(wire, "adapters", "import", "adapter.zip", "--suffix", "support", "--access", "group:hr")
    assert f"{NAME} is published" in result.output
    assert wire.body() == {"file_id": "file-4", "suffix": "support", "access": ["group:hr"]}


def test_an_alias_is_promoted_and_rolled_back(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/promotions", PROMOTION, 201)
    result = run(wire, "promote", "support", NAME, "--canary", "0")
    assert f"gated: support to {NAME}" in result.output
    assert "opened" in result.output
    assert wire.body() == {"alias": "support", "candidate": NAME, "canary_weight": 0}
    wire.on("POST", "/brain/v1/aliases/support/rollback", PROMOTION | {"state": "rolled_back"})
    wire.on("POST", "/brain/v1/promotions", PROMOTION | {"previous": "ft:base:acme:support:0"}, 201)
    assert f"support from ft:base:acme:support:0 to {NAME}" in run(wire, "promote", "support", NAME).output
    assert "rolled_back" in run(wire, "rollback", "support", "--reason", "Worse.").output
    assert wire.body() == {"reason": "Worse."}
    alias = {"alias": "support", "target": NAME, "canary": "ft:x", "canary_weight": 0.1, "moved_at": "2026-11-26"}
    wire.on("GET", "/brain/v1/aliases", {"data": [alias]})
    assert "ft:x (10%)" in run(wire, "aliases").output


def test_no_name_is_cut_off_however_narrow_the_window(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = "ft:smollm2-135m-instruct:main:support:0123456789ab"
    alias = {
        "alias": "support",
        "target": long,
        "canary": f"{long}:ckpt-step-2",
        "canary_weight": 0.1,
        "moved_at": "2026-11-26T08:01:10.162404+00:00",
    }
    wire.on("GET", "/brain/v1/aliases", {"data": [alias]})
    shown = run(wire, "aliases").output
    assert "…" not in shown
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]
    assert ["".join(column) for column in zip(*cells, strict=True)][1:3] == [long, f"{long}:ckpt-step-2 (10%)"]


def test_a_webhook_shows_its_secret_once(wire: Wire) -> None:
    hook: dict[str, Any] = {"id": "wh_1", "url": "https://hooks.example", "events": [], "last_delivery": None}
    wire.on("POST", "/brain/v1/webhooks", hook | {"secret": "whsec_abc"}, 201)
    made = run(wire, "webhooks", "create", "https://hooks.example", "--event", "failed")
    assert "whsec_abc" in made.output
    assert wire.body() == {"url": "https://hooks.example", "events": ["fine_tuning.job.failed"]}
    wire.on("GET", "/brain/v1/webhooks", {"data": [hook]})
    listed = run(wire, "webhooks", "list").output
    assert "all" in listed
    assert "whsec" not in listed
    wire.on("DELETE", "/brain/v1/webhooks/wh_1", {"id": "wh_1", "deleted": True})
    assert "wh_1 is forgotten" in run(wire, "webhooks", "delete", "wh_1").output
