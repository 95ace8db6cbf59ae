"""The fine-tuning API as an application uses it that knows OpenAI's only; ours stands in extra_body."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, InternalServerError, NotFoundError, OpenAI, PermissionDeniedError
from openai_sdk.training import FINAL, TINY, ended, keep, native, reached, rows, told, until

# A process that trains loads the base model first: seconds on an idle machine, a minute on a busy one.
pytestmark = pytest.mark.timeout(900)

HELLO: Any = [{"role": "user", "content": "Which colour has shelf 3 at Larkspur?"}]
METHOD: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto"}}}


@pytest.fixture(scope="module")
def rows_file(client: OpenAI) -> str:
    return keep(client, rows())


@dataclass
class Run:
    """A job that has succeeded, and what an application saw that waited for nothing else."""

    job: Any
    answer: Any
    retrieved: Any
    listed: list[str]
    event: Any


@pytest.fixture(scope="module")
def run(client: OpenAI, url: str, key: str, model: str, rows_file: str) -> Run:
    """Train once for all tests that need a model: each job costs two processes that load the base model."""
    ends = ["fine_tuning.job.succeeded", "fine_tuning.job.failed"]
    with told() as place:
        hook = native(url, key, "POST", "/webhooks", {"url": place.url, "events": ends})
        try:
            made = client.fine_tuning.jobs.create(
                model=model,
                training_file=rows_file,
                validation_file=keep(client, rows(3), "held-out.jsonl"),
                suffix="shelves",
                seed=11,
                metadata={"team": "larkspur"},
                method=METHOD,
                extra_body={"brain": TINY | {"checkpoint_every": 1, "evaluate_every": 1}},
            )
            assert made.object == "fine_tuning.job"
            assert made.status in {"validating_files", "queued", "running"}
            assert (made.fine_tuned_model, made.finished_at, made.result_files) == (None, None, [])
            job = ended(client, made.id)
            assert job.status == "succeeded", job.error
            # At once: an application that read of the success asks its model with the next call.
            answer = client.chat.completions.create(model=job.fine_tuned_model, messages=HELLO, max_tokens=8)
            retrieved = client.models.retrieve(job.fine_tuned_model)
            listed = [one.id for one in client.models.list()]
            body, headers = until(lambda: place.heard, timeout_s=60)[0]
        finally:
            native(url, key, "DELETE", f"/webhooks/{hook['id']}")
    return Run(job, answer, retrieved, listed, client.webhooks.unwrap(body, headers, secret=hook["secret"]))


@pytest.fixture(scope="module")
def trained(run: Run) -> Any:
    """The job of that run."""
    return run.job


def quick(client: OpenAI, model: str, rows_file: str, **more: Any) -> Any:
    """Create a job that is small."""
    return client.fine_tuning.jobs.create(model=model, training_file=rows_file, extra_body={"brain": TINY}, **more)


def test_a_job_ends_with_a_model_of_its_own(client: OpenAI, trained: Any, model: str) -> None:
    assert trained.model == model
    assert trained.fine_tuned_model.startswith("ft:")
    assert "shelves" in trained.fine_tuned_model
    assert trained.trained_tokens > 0
    assert trained.finished_at >= trained.created_at
    assert (trained.seed, trained.metadata, trained.error) == (11, {"team": "larkspur"}, None)
    assert trained.organization_id
    assert trained.brain["stage"] == "supervised"
    assert (trained.brain["step"], trained.brain["total_steps"]) == (2, 2)


def test_hyperparameters_are_shown_as_they_were_chosen(trained: Any) -> None:
    assert trained.method.type == "supervised"
    chosen = trained.method.supervised.hyperparameters
    assert chosen.n_epochs == trained.hyperparameters.n_epochs == 1
    assert isinstance(chosen.batch_size, int)
    assert chosen.batch_size == trained.hyperparameters.batch_size


def test_the_new_model_answers_as_soon_as_its_job_has_succeeded(run: Run) -> None:
    name = run.job.fine_tuned_model
    assert (run.answer.model, run.retrieved.id, run.retrieved.object) == (name, name, "model")
    assert run.answer.choices[0].message.content
    assert name in run.listed


def test_a_webhook_tells_of_the_success(run: Run) -> None:
    assert (run.event.type, run.event.data.id) == ("fine_tuning.job.succeeded", run.job.id)


def test_events_tell_the_way_newest_first(client: OpenAI, trained: Any) -> None:
    events = list(client.fine_tuning.jobs.list_events(trained.id, limit=2))
    assert len(events) > 2
    assert [event.created_at for event in events] == sorted((event.created_at for event in events), reverse=True)
    assert {event.object for event in events} == {"fine_tuning.job.event"}
    assert {event.level for event in events} <= {"info", "warn", "error"}
    measured = [event for event in events if event.type == "metrics"]
    assert {event.data["step"] for event in measured} >= {1, 2}
    assert all(event.data["train_loss"] > 0 for event in measured if "train_loss" in event.data)
    assert len({event.id for event in events}) == len(events)


def test_checkpoints_hold_their_step_and_metrics(client: OpenAI, trained: Any) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(trained.id))
    assert [one.step_number for one in checkpoints] == [2, 1]
    for one in checkpoints:
        assert one.object == "fine_tuning.job.checkpoint"
        assert one.fine_tuning_job_id == trained.id
        assert one.fine_tuned_model_checkpoint.startswith("ft:")
        assert one.metrics.step == one.step_number
        assert one.metrics.train_loss > 0
    assert checkpoints[0].metrics.valid_loss > 0
    # The last one is the job's own model.
    assert checkpoints[0].fine_tuned_model_checkpoint == trained.fine_tuned_model


def test_checkpoints_answer_under_their_names(client: OpenAI, trained: Any) -> None:
    for one in client.fine_tuning.jobs.checkpoints.list(trained.id):
        name = one.fine_tuned_model_checkpoint
        assert client.models.retrieve(name).id == name
        assert client.chat.completions.create(model=name, messages=HELLO, max_tokens=8).model == name


def test_the_result_file_is_a_table_of_metrics(client: OpenAI, trained: Any) -> None:
    head, *lines = client.files.content(trained.result_files[0]).text.strip().splitlines()
    assert {"step", "train_loss"} <= set(head.split(","))
    assert [line.split(",")[0] for line in lines] == ["1", "2"]


def test_paging_iterates_all(client: OpenAI, model: str, rows_file: str) -> None:
    mark = {"run": uuid.uuid4().hex}
    made = [quick(client, model, rows_file, metadata=mark | {"number": str(n)}).id for n in range(3)]
    try:
        page = client.fine_tuning.jobs.list(limit=2, metadata=mark)
        assert (len(page.data), page.has_more) == (2, True)
        assert [job.id for job in client.fine_tuning.jobs.list(limit=2, metadata=mark)] == made[::-1]
        one = client.fine_tuning.jobs.list(metadata=mark | {"number": "1"})
        assert [job.id for job in one] == [made[1]]
        assert list(client.fine_tuning.jobs.list(metadata={"run": "another"})) == []
        everything = [job.id for job in client.fine_tuning.jobs.list()]
        assert set(made) <= set(everything)
        without = quick(client, model, rows_file).id
        made.append(without)
        bare = [job.id for job in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})]
        assert without in bare
        assert not set(made[:3]) & set(bare)
    finally:
        for job in made:
            client.fine_tuning.jobs.cancel(job)


def test_preferences_are_trained_with_dpo_paused_resumed_and_cancelled(client: OpenAI, model: str) -> None:
    pairs = "\n".join(
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": f"Which colour has shelf {n}?"}]},
                "preferred_output": [{"role": "assistant", "content": f"Shade {n}."}],
                "non_preferred_output": [{"role": "assistant", "content": "No idea, look yourself."}],
            }
        )
        for n in range(8)
    )
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 50, "batch_size": 1}}}
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=keep(client, pairs.encode(), "pairs.jsonl"),
        method=method,
        # More steps than any machine takes while this looks.
        extra_body={"brain": TINY | {"max_steps": 500, "checkpoint_every": 1}},
    )
    try:
        until(lambda: client.fine_tuning.jobs.retrieve(job.id).brain["step"] >= 1)
        client.fine_tuning.jobs.pause(job.id)
        paused = reached(client, job.id, "paused")
        step = paused.brain["step"]
        assert step >= 1
        assert (paused.method.type, paused.method.dpo.hyperparameters.beta, paused.brain["stage"]) == (
            "dpo",
            0.2,
            "dpo",
        )
        assert client.fine_tuning.jobs.resume(job.id).status in {"queued", "running"}
        # It goes on from where it stood.
        until(lambda: client.fine_tuning.jobs.retrieve(job.id).brain["step"] > step)
        told = [event.data["step"] for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
        assert told.count(1) == 1
    finally:
        client.fine_tuning.jobs.cancel(job.id)
    gone = ended(client, job.id)
    assert (gone.status, gone.fine_tuned_model) == ("cancelled", None)
    with pytest.raises(ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_waiting_job_is_cancelled_at_once(client: OpenAI, model: str, rows_file: str) -> None:
    job = quick(client, model, rows_file)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"


def test_reinforcement_holds_its_grader(client: OpenAI, model: str) -> None:
    line = {"messages": [{"role": "user", "content": "Which colour has shelf 3?"}], "answer": "red"}
    lacking = {"messages": [{"role": "user", "content": "Which colour has shelf 4?"}]}
    grader: Any = {
        "type": "string_check",
        "name": "exact",
        "operation": "eq",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
    }

    def made(rows: list[dict[str, Any]], grader: Any) -> Any:
        data = "\n".join(json.dumps(row) for row in rows).encode()
        settings = {"grader": grader, "hyperparameters": {"compute_multiplier": 1.0, "eval_interval": 5}}
        method: Any = {"type": "reinforcement", "reinforcement": settings}
        return quick(client, model, keep(client, data, "prompts.jsonl"), method=method)

    job = made([line] * 2, grader)
    client.fine_tuning.jobs.cancel(job.id)
    assert job.method.type == "reinforcement"
    assert job.method.reinforcement.grader.reference == "{{item.answer}}"
    assert (job.method.reinforcement.hyperparameters.eval_interval, job.brain["stage"]) == (5, "rlhf")
    failed = ended(client, made([line, lacking], grader).id)
    assert (failed.status, failed.error.code) == ("failed", "invalid_training_file")
    assert "answer" in failed.error.message
    with pytest.raises(BadRequestError) as caught:
        made([line], {"type": "python", "name": "mine", "source": "def grade(sample, item):\n    return 1.0\n"})
    assert str(caught.value.param).startswith("method.reinforcement.grader")
    assert "python" in caught.value.message


def test_rows_that_cannot_be_trained_on_fail_the_job_with_their_line(client: OpenAI, model: str) -> None:
    broken = rows(4).splitlines()
    broken[2] = b'{"messages": [{"role": "user", "content": "And the answer?"}]}'
    job = ended(client, quick(client, model, keep(client, b"\n".join(broken))).id)
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "3" in job.error.message
    assert job.fine_tuned_model is None


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 51}}}},
            "method.supervised.hyperparameters.n_epochs",
        ),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}}, "method.dpo.hyperparameters.beta"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.reinforcement.grader"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
    ],
)
def test_a_bad_field_is_named(client: OpenAI, model: str, rows_file: str, more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.fine_tuning.jobs.create(model=model, training_file=rows_file, **more)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


def test_what_is_not_there_is_named(client: OpenAI, model: str, rows_file: str) -> None:
    for files in ({"training_file": "file-none"}, {"training_file": rows_file, "validation_file": "file-none"}):
        with pytest.raises(BadRequestError) as refused:
            client.fine_tuning.jobs.create(model=model, **files)
        assert refused.value.param == [*files][-1]
    with pytest.raises((NotFoundError, BadRequestError)) as caught:
        client.fine_tuning.jobs.create(model="no-such-model", training_file=rows_file)
    assert caught.value.param == "model"
    for ask in (client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.cancel):
        with pytest.raises(NotFoundError):
            ask("ftjob-none")
    with pytest.raises(NotFoundError):
        client.models.delete("ft:none:none::none")


def test_a_viewer_may_not_train_and_another_tenant_sees_nothing(
    client: OpenAI, viewer_key: str, other_tenant_key: str, trained: Any
) -> None:
    viewer = client.with_options(api_key=viewer_key)
    with pytest.raises(PermissionDeniedError):
        viewer.fine_tuning.jobs.list()
    stranger = client.with_options(api_key=other_tenant_key)
    with pytest.raises(NotFoundError):
        stranger.fine_tuning.jobs.retrieve(trained.id)
    assert trained.id not in [job.id for job in stranger.fine_tuning.jobs.list()]
    assert trained.fine_tuned_model not in [one.id for one in stranger.models.list()]


def test_checkpoint_permissions_are_refused_plainly(client: OpenAI, trained: Any) -> None:
    impatient = client.with_options(max_retries=0)
    with pytest.raises(InternalServerError) as caught:
        # The SDK asks page by page: nothing is sent before the first entry is read.
        list(
            impatient.fine_tuning.checkpoints.permissions.create(
                f"{trained.fine_tuned_model}:ckpt-step-1", project_ids=["proj_1"]
            )
        )
    assert caught.value.status_code == 501
    assert caught.value.code == "unsupported"


def test_a_deleted_model_is_gone(client: OpenAI, trained: Any) -> None:
    gone = client.models.delete(trained.fine_tuned_model)
    assert (gone.id, gone.object, gone.deleted) == (trained.fine_tuned_model, "model", True)

    def refused() -> bool:
        try:
            client.models.retrieve(trained.fine_tuned_model)
        except NotFoundError:
            return True
        return False

    assert until(refused, timeout_s=30)
    assert client.fine_tuning.jobs.retrieve(trained.id).status in FINAL
