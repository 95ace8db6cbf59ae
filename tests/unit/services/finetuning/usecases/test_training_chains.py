"""Jobs that wait for the job whose adapter they go on from."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.jobs import JobStatus
from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import Finished, Paused
from services.finetuning.usecases import training
from tests.unit.services.finetuning.bench import Bench, Say, new_bench
from tests.unit.services.finetuning.conftest import Room


@pytest.fixture
async def bench(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(training, "_LOOK_S", 0.02)
    return new_bench(room, tmp_path)


async def test_whoever_waits_for_a_job_begins_with_what_it_made(bench: Bench) -> None:
    await bench.queued()
    waiting = replace(
        await bench.now(),
        job_id="ftjob-next",
        status=JobStatus.VALIDATING,
        spec=None,
        waits_for="ftjob-0123456789ab",
        parent_job="ftjob-0123456789ab",
    )
    async with bench.room.ledger.change() as change:
        await change.put_job(waiting)
    await bench.train(await bench.claim())
    released = await bench.room.ledger.job("acme", "ftjob-next")
    assert released is not None
    assert (released.waits_for, released.parent) == ("", (await bench.now()).fine_tuned_model)
    assert await bench.table.claim("w", ["validate"], lease_s=10) is not None


async def test_whoever_waits_for_a_job_that_fails_fails_with_it(bench: Bench) -> None:
    async def refuses(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
        raise InvalidInput("No.", param="training_file")

    bench.trainer.scripts = [refuses]
    await bench.queued()
    async with bench.room.ledger.change() as change:
        await change.put_job(
            replace(await bench.now(), job_id="ftjob-next", status=JobStatus.VALIDATING, waits_for="ftjob-0123456789ab")
        )
    await bench.train(await bench.claim())
    waiting = await bench.room.ledger.job("acme", "ftjob-next")
    assert waiting is not None
    assert waiting.error is not None
    assert (waiting.status, waiting.error.code) == (JobStatus.FAILED, "stage_failed")
