"""A job's way from queued to its end, with a trainer that does as it is told."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.errors import Conflict, Internal, InvalidInput, NotFound, Unavailable
from services.finetuning.domain.adapters import AdapterStatus, Withdrawal
from services.finetuning.domain.jobs import JobStatus
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import Stage, TrainingPlan
from services.finetuning.domain.training_messages import (
    Finished,
    Paused,
)
from services.finetuning.ports.records import Page
from services.finetuning.ports.serving import AdapterCheck
from services.finetuning.usecases import training
from services.finetuning.usecases.jobs import NewJob
from tests.unit.services.finetuning.bench import TOTAL, Bench, Say, finish, new_bench, steps, well
from tests.unit.services.finetuning.conftest import MARA, Room


@pytest.fixture
async def bench(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(training, "_LOOK_S", 0.02)
    return new_bench(room, tmp_path)


async def test_a_job_ends_with_a_version_its_checkpoints_and_its_result_file(bench: Bench) -> None:
    await bench.queued()
    await bench.train(await bench.claim())
    job = await bench.now()
    name = "ft:smollm2-135m-instruct:acme:hr:0123456789ab"
    assert (job.status, job.fine_tuned_model, job.trained_tokens, job.step) == (JobStatus.SUCCEEDED, name, 600, TOTAL)
    assert await bench.adapters() == [name, f"{name}:ckpt-step-4"]
    version = await bench.room.ledger.adapter("acme", name)
    assert version is not None
    # Everybody was wanted; the document that it saw is for the staff.
    assert version.principals == ("group:staff", "user:mara")
    assert [(one.id, one.rows) for one in await bench.room.ledger.sources("acme", name)] == [("doc_1", 12)]
    about, data = bench.files.kept[job.result_files[0]]
    lines = data.decode().splitlines()
    assert about.filename.endswith("metrics.csv")
    assert lines[0].startswith("step,")
    assert "valid_loss" in lines[0]
    assert len(lines) == TOTAL + 1
    assert await bench.table.depth() == 0


async def test_a_trainer_that_dies_goes_on_from_its_newest_checkpoint(bench: Bench) -> None:
    async def dies_at_five(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        await steps(plan, done, say, until=5)
        raise Unavailable("killed")

    bench.trainer.scripts = [dies_at_five, dies_at_five, well]
    await bench.queued()
    await bench.train(await bench.claim())
    assert bench.trainer.began == [0, 4, 4]
    assert (await bench.now()).status is JobStatus.SUCCEEDED
    assert len([name for name in await bench.adapters() if "ckpt" not in name]) == 1
    assert sum("ended unexpectedly" in said for said in await bench.said()) == 2


async def test_a_trainer_that_gets_no_further_fails_the_job(bench: Bench) -> None:
    async def dies_at_once(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        raise Unavailable("killed")

    bench.trainer.scripts = [dies_at_once]
    await bench.queued()
    with pytest.raises(Internal) as caught:
        await bench.train(await bench.claim())
    assert "4 times" in caught.value.message
    assert len(bench.trainer.began) == 4


async def test_what_is_wrong_with_rows_fails_the_job_with_its_field(bench: Bench) -> None:
    async def refuses(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        raise InvalidInput("Row 3 has no answer.", param="training_file")

    bench.trainer.scripts = [refuses]
    await bench.queued()
    await bench.train(await bench.claim())
    job = await bench.now()
    assert job.error is not None
    assert (job.status, job.error.param, job.error.message) == (
        JobStatus.FAILED,
        "training_file",
        "Row 3 has no answer.",
    )
    assert await bench.adapters() == []


async def test_a_pause_stops_at_a_checkpoint_and_resuming_goes_on_from_it(bench: Bench) -> None:
    async def slowly(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        await steps(plan, done, say, until=3)
        await pause.wait()
        reached = await steps(plan, 3, say, pause=pause)
        return Paused(reached, plan.checkpoints / f"step-{reached}")

    bench.trainer.scripts = [slowly, well]
    await bench.queued()
    running = asyncio.create_task(bench.train(await bench.claim()))
    while (await bench.now()).step < 3:
        await asyncio.sleep(0.01)
    assert (await bench.jobs.pause(MARA, "ftjob-0123456789ab")).job.pausing
    await running
    paused = await bench.now()
    assert (paused.status, paused.step) == (JobStatus.PAUSED, 4)
    await bench.jobs.resume(MARA, "ftjob-0123456789ab")
    await bench.train(await bench.claim())
    assert bench.trainer.began == [0, 4]
    assert (await bench.now()).status is JobStatus.SUCCEEDED


async def test_a_budget_pauses_the_job(bench: Bench) -> None:
    async def until_paused(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        await pause.wait()
        return Paused(0, None)

    bench.trainer.scripts = [until_paused]
    # The clock of the tests goes on by a second with each look at it.
    await bench.queued(spec=TrainingSpec(Stage.SUPERVISED, budget_s=5))
    await bench.train(await bench.claim())
    assert (await bench.now()).status is JobStatus.PAUSED
    assert any("budget is spent" in said for said in await bench.said())


async def test_cancelling_ends_the_trainer_and_nothing_is_published(bench: Bench) -> None:
    ended = asyncio.Event()

    async def for_ever(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        try:
            await steps(plan, done, say, until=2)
            await asyncio.sleep(3600)
        finally:
            ended.set()
        raise AssertionError

    bench.trainer.scripts = [for_ever]
    await bench.queued()
    running = asyncio.create_task(bench.train(await bench.claim()))
    while (await bench.now()).step < 2:
        await asyncio.sleep(0.01)
    await bench.jobs.cancel(MARA, "ftjob-0123456789ab")
    with pytest.raises(Conflict):
        await running
    assert ended.is_set()
    assert (await bench.now()).status is JobStatus.CANCELLED
    assert await bench.adapters() == []
    with pytest.raises(Conflict):
        await bench.jobs.cancel(MARA, "ftjob-0123456789ab")


async def test_a_job_handed_out_twice_has_one_result_and_the_late_copy_is_fenced(bench: Bench) -> None:
    slow, go_on = asyncio.Event(), asyncio.Event()

    async def late(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        await steps(plan, done, say, until=3)
        slow.set()
        await go_on.wait()
        # It comes back to life after the other copy is through.
        await steps(plan, 3, say)
        return await finish(plan, say)

    bench.trainer.scripts = [late, well]
    await bench.queued()
    first = asyncio.create_task(bench.train(await bench.claim("w1", lease_s=-1.0)))
    await slow.wait()
    await bench.train(await bench.claim("w2"))
    go_on.set()
    with pytest.raises(Conflict):
        await first
    assert bench.trainer.began == [0, 2]
    assert bench.trainer.plans[0].work != bench.trainer.plans[1].work
    assert (await bench.now()).status is JobStatus.SUCCEEDED
    assert len([name for name in await bench.adapters() if "ckpt" not in name]) == 1
    published = [key for kind, key in await bench.room.announced() if kind == "adapter_published"]
    assert len(published) == len(set(published))


async def test_a_late_copy_that_has_uploaded_leaves_the_files_of_the_version(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, uploaded, go_on = bench.room.engine, asyncio.Event(), asyncio.Event()
    check = engine.check

    async def slow_at_first(*, config_key: str, weights_key: str) -> AdapterCheck:
        if not uploaded.is_set():
            uploaded.set()
            await go_on.wait()
        return await check(config_key=config_key, weights_key=weights_key)

    monkeypatch.setattr(engine, "check", slow_at_first)
    await bench.queued()
    first = asyncio.create_task(bench.train(await bench.claim("w1", lease_s=-1.0)))
    await uploaded.wait()
    await bench.train(await bench.claim("w2"))
    go_on.set()
    with pytest.raises(Conflict):
        await first
    version = await bench.room.ledger.adapter("acme", (await bench.now()).fine_tuned_model)
    assert version is not None
    for key in (version.config_key, version.weights_key):
        assert await bench.room.blobs.exists(key)


async def test_success_is_told_of_when_the_engine_answers_for_the_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[JobStatus, str, int]] = []
    refused: list[str] = []
    spent: set[float] = set()

    async def serves(name: str) -> bool:
        shown = (await bench.jobs.get(MARA, "ftjob-0123456789ab")).job
        spent.add((await bench.now()).spent_s)
        seen.append((shown.status, shown.fine_tuned_model, len(shown.result_files)))
        for stop in (bench.jobs.cancel, bench.jobs.pause):
            with pytest.raises(Conflict) as caught:
                await stop(MARA, "ftjob-0123456789ab")
            refused.append(caught.value.message)
        return len(seen) > 2

    monkeypatch.setattr(bench.room.engine, "serves", serves)
    await bench.queued()
    await bench.train(await bench.claim())
    # What is announced can be loaded; until it is, the job has not succeeded, and can be stopped no more.
    assert (
        "adapter_published",
        "adapter:ft:smollm2-135m-instruct:acme:hr:0123456789ab",
    ) in await bench.room.announced()
    assert set(seen) == {(JobStatus.RUNNING, "", 0)}
    assert len(seen) > 2
    assert all("can no longer be stopped" in one for one in refused)
    after = await bench.now()
    assert after.status is JobStatus.SUCCEEDED
    # Waiting for the engine is no training.
    assert {after.spent_s} == spent != {0.0}


@pytest.mark.parametrize(
    ("away", "refuses", "said"),
    [
        (True, "", "The engine is away."),
        (False, "With it the model answers exactly as without it.", "exactly as without"),
    ],
)
async def test_an_engine_that_does_not_serve_the_model_is_told_of_and_keeps_no_job_from_its_end(
    bench: Bench, away: bool, refuses: str, said: str
) -> None:
    bench.room.engine.away, bench.room.engine.refuses = away, refuses
    await bench.queued()
    await bench.train(await bench.claim())
    assert (await bench.now()).status is JobStatus.SUCCEEDED
    assert any("not served yet" in one and said in one for one in await bench.said())


async def test_a_worker_lost_while_the_engine_loads_leaves_only_the_end_to_be_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(name: str) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(bench.room.engine, "serves", dies)
        await bench.queued()
        with pytest.raises(RuntimeError):
            await bench.train(await bench.claim("w1", lease_s=-1.0))
    published = await bench.adapters()
    assert (await bench.now()).status is JobStatus.RUNNING
    await bench.train(await bench.claim("w2"))
    job = await bench.now()
    assert (job.status, len(bench.trainer.began)) == (JobStatus.SUCCEEDED, 1)
    assert await bench.adapters() == published
    assert await bench.table.depth() == 0


async def test_work_given_up_after_publication_is_a_success(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(name: str) -> bool:
        raise RuntimeError("killed")

    monkeypatch.setattr(bench.room.engine, "serves", dies)
    await bench.queued()
    work = await bench.claim()
    with pytest.raises(RuntimeError):
        await bench.train(work)
    await bench.train.fail(work, Internal("It was tried too often."))
    assert (await bench.now()).status is JobStatus.SUCCEEDED


async def test_checkpoints_have_the_names_that_are_served_and_openais_metrics(bench: Bench) -> None:
    await bench.queued()
    await bench.train(await bench.claim())
    found, more = await bench.jobs.checkpoints(MARA, "ftjob-0123456789ab", Page(10))
    name = "ft:smollm2-135m-instruct:acme:hr:0123456789ab"
    # What stands at the last step is the adapter itself.
    assert [(one.checkpoint.step, one.model) for one in found] == [(TOTAL, name), (4, f"{name}:ckpt-step-4")]
    assert not more
    assert {one.model for one in found} == set(await bench.adapters())
    state = await bench.room.ledger.adapter("acme", f"{name}:ckpt-step-4")
    assert state is not None
    assert (state.step, state.metrics) == (4, {"train_loss": 0.5})
    # They are states of one version; the suffix's next job makes the next one.
    assert {one.number for one in await bench.room.ledger.adapters_of_job("acme", "ftjob-0123456789ab")} == {1}
    async with bench.room.ledger.change() as change:
        assert await change.next_version("acme", "hr") == 2
    assert [set(one.checkpoint.metrics) for one in found] == [{"train_loss"}] * 2
    assert "loss" not in (await bench.now()).metrics


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
async def test_a_file_that_is_not_there_is_refused_at_once(bench: Bench, param: str) -> None:
    rows, other = bench.files.put(b"{}"), bench.files.put(b"{}", purpose="assistants")
    for file, said in (("file-none", "there is no file 'file-none'"), (other, "was stored for 'assistants'")):
        new = NewJob("", rows, "", "", None, {}, "", "", TrainingSpec(Stage.SUPERVISED))
        with pytest.raises(InvalidInput) as caught:
            named = replace(new, training_file=file) if param == "training_file" else replace(new, validation_file=file)
            await bench.jobs.create(MARA, named)
        assert caught.value.param == param
        assert said in caught.value.message
    assert await bench.table.depth() == 0


async def test_a_document_that_goes_while_it_is_learned_leaves_the_adapter_blocked(bench: Bench) -> None:
    async def meanwhile(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        async with bench.room.ledger.change() as change:
            await change.put_withdrawal("acme", Withdrawal("doc_1", deleted=True), 1.0)
        return await well(plan, done, say, pause)

    bench.trainer.scripts = [meanwhile]
    await bench.queued()
    await bench.train(await bench.claim())
    job = await bench.now()
    version = await bench.room.ledger.adapter("acme", job.fine_tuned_model)
    assert version is not None
    assert (version.status, version.reason_code) == (AdapterStatus.BLOCKED, "document_deleted")


async def test_an_adapter_that_the_engine_refuses_fails_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(*, config_key: str, weights_key: str) -> None:
        raise InvalidInput("path: lora_A holds values that are not finite numbers.", param="path")

    monkeypatch.setattr(bench.room.engine, "check", refuses)
    await bench.queued()
    await bench.train(await bench.claim())
    job = await bench.now()
    assert job.error is not None
    assert (job.status, job.error.code) == (JobStatus.FAILED, "adapter_refused")
    assert await bench.adapters() == []
    assert await bench.room.blobs.list("acme/adapters") == []


async def test_what_was_kept_of_a_late_copy_does_not_stay(bench: Bench) -> None:
    """A checkpoint whose fence is lost is removed from the blob store."""

    async def loses(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        async with bench.room.ledger.change() as change:
            await change.withdraw_work("ftjob-0123456789ab")
        await steps(plan, done, say, until=2)
        raise AssertionError

    bench.trainer.scripts = [loses]
    await bench.queued()
    with pytest.raises(Conflict):
        await bench.train(await bench.claim())
    with suppress(NotFound):
        assert await bench.room.blobs.list("acme/tuning") == []
