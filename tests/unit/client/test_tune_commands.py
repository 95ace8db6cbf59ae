"""`brain tune …`: what goes to the gateway, what is shown, and the exit status that says so to a script."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import tune_commands
from client.errors import UnreachableError, UsageError
from tests.unit.client.wire import Wire, printed, run

JOBS = "/v1/fine_tuning/jobs"
REPORT = {
    "trainable": False,
    "stage": "supervised",
    "template_hash": "ab12",
    "numbers": {"rows": 40, "masked_share": 0.25},
    "findings": [
        {
            "severity": "error",
            "code": "all_masked",
            "message": "No token is a label.",
            "lines": [3, 4, 5, 9],
            "numbers": {"rows": 30},
        },
        {
            "severity": "warning",
            "code": "near_duplicate",
            "message": "2 rows [nearly] say the same.",
            "lines": [7],
            "numbers": {"rows": 1},
        },
    ],
    "estimate": {"steps": 12, "seconds": 61.5, "tokens": 1200},
}


def job(status: str = "queued", **more: Any) -> dict[str, Any]:
    ours = {
        "stage": "supervised",
        "step": 0,
        "total_steps": 10,
        "queue_position": None,
        "trained_tokens": 0,
        "metrics": {},
        "spec": {"stage": "supervised", "n_epochs": 3},
        "report": None,
    }
    base = {
        "id": "ftjob-1",
        "status": status,
        "model": "base",
        "created_at": 1,
        "fine_tuned_model": None,
        "training_file": "file-1",
        "validation_file": None,
        "result_files": [],
        "seed": 7,
        "error": None,
        "metadata": None,
        "trained_tokens": None,
        "estimated_finish": None,
    }
    return (
        base
        | {name: value for name, value in more.items() if name in base}
        | {"brain": ours | {name: value for name, value in more.items() if name in ours}}
    )


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_URL", "http://brain.test")
    monkeypatch.setenv("BRAIN_API_KEY", "key-1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(tune_commands, "_LOOK_EVERY_S", 0.0)


def test_a_job_is_created_of_files_of_this_machine(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    wire.on("POST", "/v1/files", {"id": "file-7"})
    wire.on("POST", JOBS, job(queue_position=2))
    result = run(
        wire,
        *("tune", "create", "rows.jsonl", "--validation", "file-2", "--stage", "kto", "--suffix", "support"),
        *("--epochs", "2", "--rank", "8", "--seed", "5", "--set", "lora.dropout=0.1", "--set", "budget_s=60"),
        *("--note", "team=support"),
    )
    assert result.exit_code == 0, result.output
    assert "2 before it" in result.output
    assert "brain tune watch ftjob-1" in result.output
    upload, _ = wire.requests
    assert b'name="purpose"' in upload.content
    assert b"fine-tune" in upload.content
    assert b'{"messages": []}' in upload.content
    assert wire.body() == {
        "model": "default",
        "training_file": "file-7",
        "validation_file": "file-2",
        "suffix": "support",
        "seed": 5,
        "metadata": {"team": "support"},
        "brain": {"stage": "kto", "n_epochs": 2, "lora": {"r": 8, "dropout": 0.1}, "budget_s": 60},
    }


def test_a_dataset_brings_its_held_out_rows(wire: Wire) -> None:
    ready = {"status": "ready", "error": None, "training_file": "file-1", "held_out_file": "file-2"}
    wire.on("GET", "/brain/v1/datasets/ds_1", ready)
    wire.on("POST", JOBS, job())
    assert run(wire, "tune", "create", "--dataset", "ds_1").exit_code == 0
    assert wire.body() == {"model": "default", "training_file": "file-1", "validation_file": "file-2"}
    wire.on("GET", "/brain/v1/datasets/ds_1", ready | {"status": "failed", "error": "Nothing to read."})
    failed = run(wire, "tune", "create", "--dataset", "ds_1").exception
    assert isinstance(failed, UsageError)
    assert "failed: Nothing to read." in str(failed)


def test_a_setting_may_stand_in_a_file(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("Be brief.\n")
    wire.on("POST", JOBS, job())
    run(wire, "tune", "create", "file-1", "--stage", "rlaif", "--set", "constitution=@rules.txt")
    assert wire.body()["brain"] == {"stage": "rlaif", "constitution": "Be brief."}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "--dataset"),
        (["create", "file-1", "--dataset", "ds_1"], "--dataset"),
        (["create", "missing.jsonl"], "missing.jsonl"),
        (["check", "file-1", "--set", "constitution"], "NAME=VALUE"),
        (["check", "file-1", "--stage", "kto", "--set", "stage=dpo"], "twice"),
        (["check", "file-1", "--set", "constitution=@nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(wire: Wire, arguments: list[str], said: str) -> None:
    result = run(wire, "tune", *arguments)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
    assert not wire.requests


def test_a_check_shows_findings_with_their_lines_and_what_it_would_take(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/tuning/check", {"trainable": False, "report": REPORT})
    result = run(wire, "tune", "check", "file-1", "--no-dry-run")
    assert result.exit_code == 1
    for shown in ("all_masked", "3–5, 9 (30 rows)", "No token is a label.", "2 rows [nearly] say the same.", "61.5"):
        assert shown in result.output
    assert "(1 rows)" not in result.output
    assert "cannot be trained" in result.output
    assert wire.body() == {"model": "default", "training_file": "file-1", "skip_dry_run": True}
    wire.on(
        "POST", "/brain/v1/tuning/check", {"trainable": True, "report": REPORT | {"trainable": True, "findings": []}}
    )
    assert "can be trained." in run(wire, "tune", "check", "file-1").output
    good = run(wire, "tune", "check", "file-1", "--json")
    assert (good.exit_code, printed(good)["trainable"]) == (0, True)
    assert "skip_dry_run" not in wire.body()


def test_faults_that_many_lines_share_are_one_finding(wire: Wire) -> None:
    faults = [
        {
            "code": "row_missing",
            "severity": "error",
            "message": f"line {line}, messages: is missing.",
            "lines": [line],
            "numbers": {},
        }
        for line in (1, 2, 3, 7)
    ]
    other = faults[0] | {"message": "line 5, messages: is an object; it must be an array.", "lines": [5]}
    wire.on("POST", "/brain/v1/tuning/check", {"trainable": False, "report": REPORT | {"findings": [*faults, other]}})
    shown = run(wire, "tune", "check", "file-1").output
    assert shown.count("row_missing") == 2
    assert "1–3, 7" in shown
    assert "messages: is missing." in shown


def test_a_job_is_watched_until_it_ends(wire: Wire) -> None:
    running = {"train_loss": 1.25, "valid_loss": 1.5, "tokens_per_s": 104.2}
    states = iter(
        [
            job("queued", queue_position=1),
            job("running", step=4, metrics=running, estimated_finish=1_800_000_000),
            job("succeeded", step=10, trained_tokens=900, fine_tuned_model="ft:base:acme:support:1"),
        ]
    )
    wire.on_call("GET", f"{JOBS}/ftjob-1", lambda _request: httpx.Response(200, json=next(states)))
    result = run(wire, "tune", "watch", "ftjob-1")
    assert result.exit_code == 0
    assert "10/10" in result.output
    assert "ft:base:acme:support:1 after 10 steps and 900 tokens" in result.output


def test_a_restart_of_the_gateway_does_not_end_the_watching(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    away = httpx.Response(503, json={"error": {"message": "The finetuning service is not available."}})
    answers = iter([httpx.Response(200, json=job("running")), away, httpx.Response(200, json=job("succeeded"))])
    wire.on_call("GET", f"{JOBS}/ftjob-1", lambda _request: next(answers))
    assert run(wire, "tune", "watch", "ftjob-1").exit_code == 0
    monkeypatch.setattr(tune_commands, "_PATIENCE_S", -1.0)
    wire.on_call("GET", f"{JOBS}/ftjob-1", lambda _request: away)
    assert isinstance(run(wire, "tune", "watch", "ftjob-1").exception, UnreachableError)


def test_the_bar_says_what_a_reader_wants_to_know() -> None:
    from client.tuning_rendering import _told

    metrics = {"train_loss": 1.25, "valid_loss": 1.5, "tokens_per_s": 1104.2}
    told = ", ".join(_told(job("running", queue_position=1, metrics=metrics, estimated_finish=1_800_000_000)))
    assert told.startswith("1 before it, loss 1.2500, validation 1.5000, 1,104 tokens/s, ends about ")
    assert list(_told(job("queued"))) == []


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            job("failed", error={"code": "training_failed", "message": "Out of memory."}),
            "training_failed: Out of memory.",
        ),
        (job("cancelled", step=3), "after 3 steps"),
        (job("paused", step=3), "brain tune resume ftjob-1"),
    ],
)
def test_a_job_that_did_not_succeed_is_told_by_the_exit_status(wire: Wire, ended: dict[str, Any], said: str) -> None:
    wire.on("GET", f"{JOBS}/ftjob-1", ended)
    result = run(wire, "tune", "watch", "ftjob-1")
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())


def test_a_job_may_be_watched_as_it_is_created(wire: Wire) -> None:
    wire.on("POST", JOBS, job())
    wire.on("GET", f"{JOBS}/ftjob-1", job("succeeded", fine_tuned_model="ft:x"))
    result = run(wire, "tune", "create", "file-1", "--watch", "--json")
    assert result.exit_code == 0
    assert printed(result)["fine_tuned_model"] == "ft:x"


@pytest.mark.parametrize(
    ("verb", "status", "said"),
    [("cancel", "cancelled", "cancelled"), ("pause", "paused", "resume"), ("resume", "running", "running")],
)
def test_a_job_is_steered(wire: Wire, verb: str, status: str, said: str) -> None:
    wire.on("POST", f"{JOBS}/ftjob-1/{verb}", job(status))
    result = run(wire, "tune", verb, "ftjob-1")
    assert result.exit_code == 0
    assert said in result.output


def test_jobs_are_listed_over_pages_with_their_notes(wire: Wire) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        first = "after" not in request.url.params
        jobs = [job(status="running") | {"id": f"ftjob-{n}"} for n in ((9, 8) if first else (7, 6))]
        return httpx.Response(200, json={"data": jobs, "has_more": True, "last_id": jobs[-1]["id"]})

    wire.on_call("GET", JOBS, page)
    result = run(wire, "tune", "list", "--note", "team=a", "--limit", "3", "--json")
    assert [one["id"] for one in printed(result)] == ["ftjob-9", "ftjob-8", "ftjob-7"]
    assert wire.requests[0].url.params["metadata[team]"] == "a"
    assert wire.requests[1].url.params["after"] == "ftjob-8"
    assert "0/10" in run(wire, "tune", "list", "--limit", "1").output


def test_a_job_is_shown_with_its_report_and_checkpoints(wire: Wire) -> None:
    wire.on("GET", f"{JOBS}/ftjob-1", job("failed", report=REPORT, error={"code": "invalid_training_file"}))
    checkpoints = [{"id": "ftckpt_1", "step_number": 4, "fine_tuned_model_checkpoint": "ft:x:ckpt-step-4"}]
    wire.on("GET", f"{JOBS}/ftjob-1/checkpoints", {"data": checkpoints, "has_more": False, "last_id": "ftckpt_1"})
    shown = run(wire, "tune", "show", "ftjob-1").output
    for part in ("invalid_training_file", "all_masked", "ftckpt_1", "ft:x:ckpt-step-4", "n_epochs 3"):
        assert part in shown
    assert printed(run(wire, "tune", "show", "ftjob-1", "--json"))["checkpoints"] == checkpoints


def test_events_are_told_oldest_first(wire: Wire) -> None:
    found = [
        {"id": f"ftevent-{n}", "created_at": n, "level": level, "message": message}
        for n, level, message in ((2, "error", "It broke [here]."), (1, "info", "It began."))
    ]
    wire.on("GET", f"{JOBS}/ftjob-1/events", {"data": found, "has_more": False, "last_id": "ftevent-1"})
    shown = run(wire, "tune", "events", "ftjob-1").output
    assert shown.index("It began.") < shown.index("It broke [here].")
    assert json.loads(run(wire, "tune", "events", "ftjob-1", "--json").stdout) == found
