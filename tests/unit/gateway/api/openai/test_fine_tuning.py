"""OpenAI's fine-tuning API: what goes to the room, and the shapes that come back."""

import json
from typing import Any

import pytest

from brain.finetuning.v1 import job_pb2
from tests.unit.gateway.api.tuned import Tuned
from tests.unit.gateway.finetuning_room import REPORT, stamp

JOBS = "/v1/fine_tuning/jobs"
BODY = {"model": "default", "training_file": "file-1"}


async def test_a_job_is_created_as_asked_and_shown_with_what_was_chosen(tuned: Tuned) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": "auto"}}}
    body = BODY | {
        "validation_file": "file-2",
        "suffix": "support",
        "seed": 5,
        "metadata": {"team": "support"},
        "method": method,
        "brain": {"lora": {"r": 8}, "max_steps": 2},
    }
    answer = await tuned.ask("POST", JOBS, body)
    assert answer.status == 200, answer.body
    request: job_pb2.CreateJobRequest = tuned.room.asked[-1]
    assert (request.model, request.training_file, request.validation_file) == ("", "file-1", "file-2")
    assert (request.suffix, request.seed, dict(request.metadata)) == ("support", 5, {"team": "support"})
    assert (request.spec.stage, request.spec.beta, request.spec.max_steps) == (job_pb2.STAGE_DPO, 0.2, 2)
    assert request.spec.lora.rank == 8
    assert not request.spec.HasField("n_epochs")
    assert json.loads(request.method_json) == method
    job = answer.json()
    assert job | {"brain": None} == {
        "id": "ftjob-0",
        "object": "fine_tuning.job",
        "created_at": stamp().seconds,
        "error": None,
        "finished_at": None,
        "fine_tuned_model": None,
        "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto"},
        "model": "base",
        "organization_id": "acme",
        "result_files": [],
        "status": "queued",
        "trained_tokens": None,
        "training_file": "file-1",
        "validation_file": "file-2",
        "seed": 7,
        "estimated_finish": None,
        "integrations": [],
        "metadata": {"team": "support"},
        "method": {
            "type": "dpo",
            "dpo": {
                "hyperparameters": {
                    "beta": 0.2,
                    "n_epochs": 3,
                    "batch_size": "auto",
                    "learning_rate_multiplier": "auto",
                }
            },
        },
        "user_provided_suffix": "support",
        "brain": None,
    }
    ours = job["brain"]
    assert (ours["stage"], ours["step"], ours["queue_position"], ours["owner"]) == ("dpo", 0, 0, "trainer")
    assert (ours["spec"]["lora"]["r"], ours["spec"]["max_steps"], ours["report"]) == (8, 2, None)


async def test_an_unset_seed_is_not_zero(tuned: Tuned) -> None:
    await tuned.ask("POST", JOBS, BODY)
    assert not tuned.room.asked[-1].HasField("seed")


async def test_a_method_that_nobody_wrote_is_shown_where_openai_has_one(tuned: Tuned) -> None:
    shown = {
        stage: (await tuned.ask("POST", JOBS, BODY | {"brain": {"stage": stage}})).json()["method"]
        for stage in ("supervised", "continued_pretraining", "kto")
    }
    assert shown["supervised"]["supervised"]["hyperparameters"]["n_epochs"] == 3
    assert (shown["continued_pretraining"], shown["kto"]) == (None, None)


async def test_a_job_of_each_state_is_shown(tuned: Tuned) -> None:
    running = tuned.room.job(
        status=job_pb2.JOB_STATUS_RUNNING,
        step=3,
        total_steps=9,
        trained_tokens=120,
        estimated_finish=stamp(60),
        metrics_json='{"train_loss": 1.5}',
        report_json=json.dumps(REPORT),
    )
    job = await tuned.get(f"{JOBS}/{running.job_id}")
    assert (job["status"], job["trained_tokens"], job["estimated_finish"]) == ("running", None, stamp(60).seconds)
    ours = job["brain"]
    assert (ours["step"], ours["total_steps"], ours["trained_tokens"]) == (3, 9, 120)
    assert (ours["metrics"], ours["report"], ours["queue_position"]) == ({"train_loss": 1.5}, REPORT, None)
    done = tuned.room.job(
        status=job_pb2.JOB_STATUS_SUCCEEDED,
        trained_tokens=400,
        finished_at=stamp(90),
        fine_tuned_model="ft:base:acme:support:1",
        result_files=["file-9"],
    )
    job = await tuned.get(f"{JOBS}/{done.job_id}")
    assert (job["trained_tokens"], job["finished_at"], job["result_files"]) == (400, stamp(90).seconds, ["file-9"])
    assert job["fine_tuned_model"] == "ft:base:acme:support:1"
    error = job_pb2.JobError(code="invalid_training_file", message="Line 3 has no label.", param="training_file")
    failed = tuned.room.job(status=job_pb2.JOB_STATUS_FAILED, error=error)
    assert (await tuned.get(f"{JOBS}/{failed.job_id}"))["error"] == {
        "code": "invalid_training_file",
        "message": "Line 3 has no label.",
        "param": "training_file",
    }


async def test_a_job_is_cancelled_paused_and_resumed_without_a_body(tuned: Tuned) -> None:
    job = tuned.room.job(status=job_pb2.JOB_STATUS_RUNNING)
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = await tuned.ask("POST", f"{JOBS}/{job.job_id}/{verb}")
        assert (answer.status, answer.json()["status"]) == (200, status)
    again = await tuned.ask("POST", f"{JOBS}/{job.job_id}/cancel")
    assert (again.status, again.json()["error"]["type"]) == (409, "conflict_error")
    unknown = await tuned.ask("POST", f"{JOBS}/ftjob-none/cancel")
    assert (unknown.status, unknown.json()["error"]["param"]) == (404, "job_id")


async def test_jobs_are_paged_newest_first(tuned: Tuned) -> None:
    for _ in range(5):
        tuned.room.job()
    seen: list[str] = []
    after = ""
    while True:
        page = await tuned.get(f"{JOBS}?limit=2" + (f"&after={after}" if after else ""))
        seen += [job["id"] for job in page["data"]]
        assert (page["object"], page["first_id"]) == ("list", page["data"][0]["id"])
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == [f"ftjob-{n}" for n in (4, 3, 2, 1, 0)]
    empty = await tuned.get(f"{JOBS}?metadata[a]=b")
    assert (empty["data"], empty["has_more"], empty["first_id"], empty["last_id"]) == ([], False, None, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"both", "one", "none"}),
        ("?metadata[team]=a", {"both", "one"}),
        ("?metadata%5Bteam%5D=a&metadata%5Brun%20no%5D=1", {"both"}),
        ("?metadata=null", {"none"}),
        ("?metadata=", {"both", "one", "none"}),
    ],
)
async def test_jobs_are_found_by_their_notes(tuned: Tuned, query: str, found: set[str]) -> None:
    tuned.room.job(suffix="both", metadata={"team": "a", "run no": "1"})
    tuned.room.job(suffix="one", metadata={"team": "a"})
    tuned.room.job(suffix="none")
    assert {job["user_provided_suffix"] for job in (await tuned.get(JOBS + query))["data"]} == found


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=101", "limit"),
        ("limit=0", "limit"),
        ("metadata=all", "metadata"),
        ("metadata=null&metadata[a]=b", "metadata"),
    ],
)
async def test_a_list_that_cannot_be_is_refused_by_name(tuned: Tuned, query: str, said: str) -> None:
    answer = await tuned.ask("GET", f"{JOBS}?{query}")
    assert (answer.status, answer.json()["error"]["param"]) == (400, said)


async def test_events_and_checkpoints_have_openais_shapes(tuned: Tuned) -> None:
    job = tuned.room.job()
    tuned.room.events[job.job_id] = [
        job_pb2.JobEvent(event_id="ftevent-1", created_at=stamp(), level="info", message="Queued.", type="message"),
        job_pb2.JobEvent(
            event_id="ftevent-2",
            created_at=stamp(1),
            level="info",
            message="Step 1/2: training loss=1.50",
            type="metrics",
            data_json='{"step": 1, "train_loss": 1.5}',
        ),
    ]
    tuned.room.checkpoints[job.job_id] = [
        job_pb2.Checkpoint(
            checkpoint_id=f"ftckpt_{n}",
            created_at=stamp(n),
            model=f"ft:base:acme::1:ckpt-step-{n}",
            job_id=job.job_id,
            step=n,
            metrics_json='{"train_loss": 1.5}',
        )
        for n in range(1, 13)
    ]
    events = await tuned.get(f"{JOBS}/{job.job_id}/events")
    assert [event["id"] for event in events["data"]] == ["ftevent-2", "ftevent-1"]
    assert events["data"][0] == {
        "object": "fine_tuning.job.event",
        "id": "ftevent-2",
        "created_at": stamp(1).seconds,
        "level": "info",
        "message": "Step 1/2: training loss=1.50",
        "type": "metrics",
        "data": {"step": 1, "train_loss": 1.5},
    }
    assert events["data"][1]["data"] is None
    following = await tuned.get(f"{JOBS}/{job.job_id}/events?after=ftevent-2&limit=1")
    assert ([event["id"] for event in following["data"]], following["has_more"]) == (["ftevent-1"], False)
    checkpoints = await tuned.get(f"{JOBS}/{job.job_id}/checkpoints")
    assert (len(checkpoints["data"]), checkpoints["has_more"]) == (10, True)
    assert checkpoints["data"][0] == {
        "object": "fine_tuning.job.checkpoint",
        "id": "ftckpt_12",
        "created_at": stamp(12).seconds,
        "fine_tuned_model_checkpoint": "ft:base:acme::1:ckpt-step-12",
        "fine_tuning_job_id": job.job_id,
        "step_number": 12,
        "metrics": {"step": 12, "train_loss": 1.5},
    }


async def test_the_same_job_twice_is_created_once(tuned: Tuned) -> None:
    again = {"idempotency-key": "k1"}
    first, second = [await tuned.ask("POST", JOBS, BODY, headers=again) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert len(tuned.room.jobs) == 1


async def test_graders_are_checked_and_run(tuned: Tuned) -> None:
    grader = {"type": "string_check", "name": "exact", "operation": "eq", "input": "a", "reference": "b"}
    path = "/v1/fine_tuning/alpha/graders"
    assert (await tuned.ask("POST", f"{path}/validate", {"grader": grader})).json() == {"grader": grader}
    run = {"grader": grader, "model_sample": "42", "item": {"answer": "42"}}
    assert (await tuned.ask("POST", f"{path}/run", run)).json() == {
        "reward": 1.0,
        "sub_rewards": {"exact": 0.5},
        "model_grader_token_usage_per_model": {},
        "metadata": {"name": "exact", "type": "string_check", "errors": {}},
    }
    assert (await tuned.ask("POST", f"{path}/run", {"grader": grader, "model_sample": "42"})).json()["reward"] == 0
    code = {"grader": {"type": "python", "name": "p", "source": "import os"}}
    refused = await tuned.ask("POST", f"{path}/validate", code)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "grader.type")
    missing = await tuned.ask("POST", f"{path}/run", {"grader": grader})
    assert (missing.status, missing.json()["error"]["param"]) == (400, "model_sample")


async def test_checkpoints_are_not_shared_and_that_is_said(tuned: Tuned) -> None:
    path = "/v1/fine_tuning/checkpoints/ft:org/base:acme:s:1:ckpt-step-1/permissions"
    answer = await tuned.ask("POST", path, {"project_ids": ["p"]})
    assert (answer.status, answer.json()["error"]["code"]) == (501, "unsupported")
    assert "access lists" in answer.json()["message"]


@pytest.mark.parametrize("name", ["ft:base:acme:support:1", "ft:org/base:acme:support:1"])
async def test_an_adapter_is_deleted_as_a_model(tuned: Tuned, name: str) -> None:
    tuned.room.adapter(name)
    answer = await tuned.ask("DELETE", f"/v1/models/{name}")
    assert answer.json() == {"id": name, "object": "model", "deleted": True}
    assert tuned.room.adapters == {}
    gone = await tuned.ask("DELETE", f"/v1/models/{name}")
    assert (gone.status, gone.json()["error"]["param"]) == (404, "model")


async def test_a_room_that_is_away_is_told_to_come_back(tuned: Tuned) -> None:
    tuned.gateway.services.jobs._stub.GetJob = _away  # type: ignore[attr-defined]
    answer = await tuned.ask("GET", f"{JOBS}/ftjob-1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def _away(*_: Any, **__: Any) -> None:
    from services.chassis.errors import Unavailable

    raise Unavailable("The finetuning service is not available.", retry_after_s=1.0)
