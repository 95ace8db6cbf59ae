"""The native API about training: datasets, checks, adapters, promotions, aliases, webhooks."""

import pytest

from brain.finetuning.v1 import adapter_pb2, dataset_pb2, job_pb2
from tests.unit.gateway.api.tuned import Tuned
from tests.unit.gateway.finetuning_room import REPORT

NAME = "ft:base:acme:support:1"


async def test_a_check_takes_the_body_that_would_create_the_job(tuned: Tuned) -> None:
    body = {"model": "default", "training_file": "file-1", "brain": {"stage": "raft"}, "skip_dry_run": True}
    answer = await tuned.ask("POST", "/brain/v1/tuning/check", body)
    assert answer.json() == {"trainable": False, "report": REPORT}
    request: job_pb2.CheckJobRequest = tuned.room.asked[-1]
    assert (request.job.spec.stage, request.job.training_file) == (job_pb2.STAGE_RAFT, "file-1")
    assert request.skip_dry_run
    assert not tuned.room.jobs
    refused = await tuned.ask("POST", "/brain/v1/tuning/check", body | {"brain": {"stage": "best"}})
    assert (refused.status, refused.json()["error"]["param"]) == (400, "brain.stage")


async def test_a_dataset_lives_from_building_to_deletion(tuned: Tuned) -> None:
    body = {
        "name": "Handbook",
        "kind": "raft",
        "collections": ["vs_1"],
        "gold_share": 0,
        "max_rows": 200,
        "held_out_share": 0.2,
    }
    made = await tuned.ask("POST", "/brain/v1/datasets", body)
    assert made.status == 202
    dataset = made.json()
    assert (dataset["id"], dataset["status"], dataset["training_file"]) == ("ds_0", "building", None)
    assert dataset["created_at"].startswith("2026-11-26T12:00:00")
    # What was said to be 0 is 0; what was not said is nobody's choice.
    assert (dataset["spec"]["gold_share"], dataset["spec"]["unanswerable_share"]) == (0, None)
    spec = tuned.room.asked[-1].spec
    assert (spec.kind, list(spec.collection_ids), spec.max_rows) == (dataset_pb2.DATASET_KIND_RAFT, ["vs_1"], 200)
    assert (spec.HasField("gold_share"), spec.HasField("unanswerable_share")) == (True, False)
    ready = tuned.room.datasets["ds_0"]
    ready.status, ready.training_file, ready.rows = dataset_pb2.DATASET_STATUS_READY, "file-1", 9
    ready.report_json = '{"left_out": 2}'
    shown = await tuned.get("/brain/v1/datasets/ds_0")
    assert (shown["status"], shown["rows"], shown["report"]) == ("ready", 9, {"left_out": 2})
    await tuned.ask("POST", "/brain/v1/datasets", body)
    page = await tuned.get("/brain/v1/datasets?limit=1")
    assert ([one["id"] for one in page["data"]], page["has_more"], page["next"]) == (["ds_1"], True, "ds_1")
    assert (await tuned.ask("DELETE", "/brain/v1/datasets/ds_0")).json() == {"id": "ds_0", "deleted": True}
    assert (await tuned.ask("GET", "/brain/v1/datasets/ds_0")).status == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "poems"}, "kind"),
        ({"gold_share": 2}, "gold_share"),
        ({"held_out_share": 1}, "held_out_share"),
        ({"format": "xml"}, "format"),
        ({"collection": "vs_1"}, "collection"),
    ],
)
async def test_a_dataset_that_cannot_be_is_refused_by_field(tuned: Tuned, body: dict[str, object], param: str) -> None:
    answer = await tuned.ask("POST", "/brain/v1/datasets", {"name": "x", "kind": "raft"} | body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_an_adapter_is_shown_with_its_lineage(tuned: Tuned) -> None:
    source = adapter_pb2.AdapterSource(kind="document", id="doc_1", version=2, rows=5, withdrawn=True)
    tuned.room.adapter("ft:base:acme:older:1")
    tuned.room.adapter(
        NAME,
        suffix="support",
        digest="ab",
        job_id="ftjob-1",
        sources=[source],
        principals=["group:hr"],
        aliases=["support"],
        settings_json='{"n_epochs": 3}',
    )
    shown = await tuned.get(f"/brain/v1/adapters/{NAME}")
    assert shown["sources"] == [{"kind": "document", "id": "doc_1", "version": 2, "rows": 5, "withdrawn": True}]
    assert (shown["state"], shown["access"], shown["aliases"]) == ("published", ["group:hr"], ["support"])
    assert (shown["settings"], shown["metrics"], shown["parent"]) == ({"n_epochs": 3}, None, None)
    listed = await tuned.get("/brain/v1/adapters")
    assert [one["name"] for one in listed["data"]] == [NAME, "ft:base:acme:older:1"]
    seen_by = await tuned.get("/brain/v1/adapters?document=doc_1")
    assert [one["name"] for one in seen_by["data"]] == [NAME]


async def test_an_adapter_is_imported_blocked_accepted_retrained_and_deleted(tuned: Tuned) -> None:
    body = {"file_id": "file-1", "suffix": "support", "access": ["group:hr"]}
    imported = await tuned.ask("POST", "/brain/v1/adapters", body)
    assert (imported.status, imported.json()["name"], imported.json()["access"]) == (201, NAME, ["group:hr"])
    blocked = await tuned.ask("POST", f"/brain/v1/adapters/{NAME}/block", {"reason": "It swears."})
    assert (blocked.json()["state"], blocked.json()["reason"]) == ("blocked", "It swears.")
    # A trainer's own adapter stays refused until an administrator says why it may be served.
    refused = await tuned.ask("POST", f"/brain/v1/adapters/{NAME}/accept", {"reason": "Fine."})
    assert refused.status == 403
    silent = await tuned.administrator.ask("POST", f"/brain/v1/adapters/{NAME}/accept", b"{}")
    assert (silent.status, silent.json()["error"]["param"]) == (400, "reason")
    accepted = await tuned.administrator.ask("POST", f"/brain/v1/adapters/{NAME}/accept", b'{"reason": "Reviewed."}')
    assert (accepted.json()["state"], accepted.json()["reason"]) == ("published", "Reviewed.")
    again = await tuned.ask("POST", f"/brain/v1/adapters/{NAME}/retrain")
    assert (again.status, again.json()) == (202, {"jobs": ["ftjob-a", "ftjob-b"], "rows_left_out": 4})
    assert (await tuned.ask("DELETE", f"/brain/v1/adapters/{NAME}")).json() == {"name": NAME, "deleted": True}
    assert (await tuned.ask("GET", f"/brain/v1/adapters/{NAME}")).status == 404


async def test_an_adapter_of_a_base_with_a_slash_is_found(tuned: Tuned) -> None:
    name = "ft:org/base:acme:support:1"
    tuned.room.adapter(name)
    assert (await tuned.get(f"/brain/v1/adapters/{name}"))["name"] == name
    assert (await tuned.ask("POST", f"/brain/v1/adapters/{name}/block")).json()["state"] == "blocked"


async def test_a_promotion_is_opened_followed_and_rolled_back(tuned: Tuned) -> None:
    opened = await tuned.ask("POST", "/brain/v1/promotions", {"alias": "support", "candidate": NAME})
    assert (opened.status, opened.json()["state"], opened.json()["finished_at"]) == (201, "gated", None)
    request = tuned.room.asked[-1]
    assert not request.HasField("canary_weight")
    await tuned.ask("POST", "/brain/v1/promotions", {"alias": "sales", "candidate": NAME, "canary_weight": 0})
    assert tuned.room.asked[-1].HasField("canary_weight")
    listed = await tuned.get("/brain/v1/promotions?alias=support")
    assert [one["id"] for one in listed["data"]] == ["promo_0"]
    alias = (await tuned.get("/brain/v1/aliases"))["data"][0]
    assert (alias["alias"], alias["target"], alias["canary"], alias["canary_weight"]) == ("support", "base", NAME, 0.1)
    back = await tuned.ask("POST", "/brain/v1/aliases/support/rollback", {"reason": "Worse."})
    assert back.json()["state"] == "rolled_back"
    shown = await tuned.get("/brain/v1/promotions/promo_0")
    assert [(step["state"], step["reason"], step["by"]) for step in shown["history"]] == [
        ("gated", "opened", None),
        ("rolled_back", "Worse.", "user:trainer"),
    ]
    assert shown["finished_at"].startswith("2026-11-26T12:01:00")


async def test_a_webhook_shows_its_secret_once(tuned: Tuned) -> None:
    body = b'{"url": "https://hooks.example/done", "events": ["fine_tuning.job.failed"]}'
    again = {"idempotency-key": "k1"}
    made = await tuned.administrator.ask("POST", "/brain/v1/webhooks", body, again)
    assert (made.status, made.json()["secret"][:6]) == (201, "whsec_")
    repeated = await tuned.administrator.ask("POST", "/brain/v1/webhooks", body, again)
    assert repeated.status == 409
    assert b"whsec_" not in repeated.body
    listed = (await tuned.administrator.ask("GET", "/brain/v1/webhooks")).json()["data"]
    assert (len(listed), listed[0]["events"], "secret" in listed[0]) == (1, ["fine_tuning.job.failed"], False)
    gone = await tuned.administrator.ask("DELETE", f"/brain/v1/webhooks/{listed[0]['id']}")
    assert gone.json() == {"id": "wh_0", "deleted": True}
    for wrong in (b'{"url": "ftp://x"}', b'{"url": "https://x", "events": ["fine_tuning.job.started"]}'):
        assert (await tuned.administrator.ask("POST", "/brain/v1/webhooks", wrong)).status == 400
