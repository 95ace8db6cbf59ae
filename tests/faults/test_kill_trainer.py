"""`kill -9` of the trainer, and of the room above it, while a job trains: it goes on, and there is one adapter in the end."""

import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest

from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.faults.training_jobs import create, events, job_of, steps, trainers
from tests.running_stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(size(ci=1800, release=5400))

# Long enough for all kills between checkpoints on any machine: what is measured in steps, not in seconds.
KILLS, EVERY = size(ci=5, release=20), 5
STEPS = 12 * KILLS


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("trainer"), engine="scripted://?mode=extract") as running:
        yield running


def test_a_trainer_killed_again_and_again_loses_at_most_an_interval_each_time(stack: RunningStack) -> None:
    chance = random.Random(13)
    with stack.client(stack.key("tara", role="trainer")) as client:
        job = create(client, max_steps=STEPS, checkpoint_every=EVERY, batch_size=1)
        back_s: list[float] = []
        for kill in range(KILLS):
            # Somewhere in the next part of the way, and never where the last one was.
            target = (kill + 1) * STEPS // (KILLS + 1) + chance.randint(0, EVERY)
            stack.wait_until(lambda aim=target: max(steps(client, job), default=0) >= aim, timeout_s=600)  # type: ignore[misc]
            victims = {one.pid for one in trainers(stack.pid("finetuning"))}
            assert victims, "there must be something to kill"
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            began = time.monotonic()
            stack.wait_until(
                lambda dead=victims: any(one.pid not in dead for one in trainers(stack.pid("finetuning"))),  # type: ignore[misc]
                timeout_s=300,
            )
            back_s.append(time.monotonic() - began)
        stack.wait_until(lambda: job_of(client, job)["status"] in {"succeeded", "failed"}, timeout_s=900)
        final = job_of(client, job)
        assert final["status"] == "succeeded", final["error"]
        said = [event["message"] for event in events(client, job)]
        assert sum("ended unexpectedly" in one for one in said) >= KILLS, "the kills must have bitten"

        told = steps(client, job)
        assert max(told) == STEPS
        back = [before - after for before, after in pairwise(told) if after < before]
        assert len(back) <= KILLS
        # Going on from a checkpoint, the first step after it is told again: what is lost is less than an interval.
        assert all(lost < EVERY for lost in back), back

        own = [one for one in client.get("/brain/v1/adapters").json()["data"] if one["job"] == job]
        assert [one["name"] for one in own if not one["step"]] == [final["fine_tuned_model"]]
        assert len({one["name"] for one in own}) == len(own)
    record(
        "trainer killed mid-run",
        held="resumed from the newest checkpoint each time, exactly one adapter version",
        kills=KILLS,
        steps=STEPS,
        steps_done_again=sum(back),
        **over("next_trainer_started", back_s),
    )


def test_the_room_killed_while_it_trains_goes_on_and_leaves_no_trainer_behind(stack: RunningStack) -> None:
    with stack.client(stack.key("tara", role="trainer")) as client:
        job = create(client, max_steps=30, checkpoint_every=EVERY, batch_size=1)
        stack.wait_until(lambda: max(steps(client, job), default=0) >= 8, timeout_s=600)
        killed = stack.pid("finetuning")
        orphans = trainers(killed)
        assert orphans
        stack.kill("finetuning")
        until = time.monotonic() + 30
        while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in orphans):
            assert time.monotonic() < until, "a trainer must end with its room"
            time.sleep(0.1)
        # For a moment the stack has not yet noticed.
        stack.wait_until(lambda: stack.pid("finetuning") != killed and stack.ready, timeout_s=180)
        stack.wait_until(lambda: job_of(client, job)["status"] in {"succeeded", "failed"}, timeout_s=900)
        final = job_of(client, job)
        assert final["status"] == "succeeded", final["error"]
        told = steps(client, job)
        back = [before - after for before, after in pairwise(told) if after < before]
        assert back, "the kill must have bitten"
        assert all(lost < EVERY + 1 for lost in back)
        own = [one for one in client.get("/brain/v1/adapters").json()["data"] if one["job"] == job and not one["step"]]
        assert [one["name"] for one in own] == [final["fine_tuned_model"]]


def test_nothing_of_a_killed_trainer_is_left_on_the_disk(stack: RunningStack) -> None:
    scratch = stack.state_dir / "finetuning" / "scratch"
    stack.wait_until(lambda: not trainers(stack.pid("finetuning")))
    # A job says that it succeeded a moment before its folder goes.
    stack.wait_until(lambda: not [path for path in scratch.iterdir() if path.name.startswith("ftjob-")], timeout_s=30)
