"""`kill -9` of the trainer, and of the room above it, while a job trains: it goes on, and there is one adapter in the end."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import psutil
import pytest

from examples.generate import generate
from tests.running_stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(1800)

# Long enough for five kills between checkpoints on any machine: what is measured in steps, not in seconds.
STEPS, EVERY, KILLS = 60, 5, 5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("trainer"), engine="scripted://?mode=extract") as running:
        yield running


def trainers(stack: RunningStack) -> list[psutil.Process]:
    """The trainers that the room's process started."""
    room = psutil.Process(stack.pid("finetuning"))
    return [one for one in room.children(recursive=True) if "services.finetuning.trainer" in " ".join(one.cmdline())]


def events(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    """Everything that happened to a job, oldest first."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get(f"/v1/fine_tuning/jobs/{job}/events", params={"limit": 100, "after": after}).json()
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]
        after = page["last_id"]


def steps(client: httpx.Client, job: str) -> list[int]:
    """The steps that were told of, in the order of telling; evaluations say theirs again."""
    return [event["data"]["step"] for event in events(client, job) if event["type"] == "metrics"]


def create(client: httpx.Client, **brain: Any) -> str:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": fact.answer}]}
        for document in generate(5, 8)
        for fact in document.facts
        for asked in fact.phrasings
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.post("/v1/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "fine-tune"}).json()
    answer = client.post(
        "/v1/fine_tuning/jobs",
        json={"model": "default", "training_file": file["id"], "suffix": "killed", "seed": 3, "brain": brain},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/fine_tuning/jobs/{job}").json())


def test_a_trainer_killed_five_times_loses_at_most_an_interval_each_time(stack: RunningStack) -> None:
    chance = random.Random(13)
    with stack.client(stack.key("tara", role="trainer")) as client:
        job = create(client, max_steps=STEPS, checkpoint_every=EVERY, batch_size=1)
        for kill in range(KILLS):
            # Somewhere in the next tenth of the way, and never where the last one was.
            target = (kill + 1) * STEPS // (KILLS + 1) + chance.randint(0, EVERY)
            stack.wait_until(lambda aim=target: max(steps(client, job), default=0) >= aim, timeout_s=600)  # type: ignore[misc]
            victims = trainers(stack)
            assert victims, "there must be something to kill"
            for victim in victims:
                os.kill(victim.pid, signal.SIGKILL)
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


def test_the_room_killed_while_it_trains_goes_on_and_leaves_no_trainer_behind(stack: RunningStack) -> None:
    with stack.client(stack.key("tara", role="trainer")) as client:
        job = create(client, max_steps=30, checkpoint_every=EVERY, batch_size=1)
        stack.wait_until(lambda: max(steps(client, job), default=0) >= 8, timeout_s=600)
        orphans = trainers(stack)
        assert orphans
        stack.kill("finetuning")
        until = time.monotonic() + 30
        while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in orphans):
            assert time.monotonic() < until, "a trainer must end with its room"
            time.sleep(0.1)
        stack.wait_until(lambda: stack.ready, timeout_s=180)
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
    stack.wait_until(lambda: not trainers(stack))
    # A job says that it succeeded a moment before its folder goes.
    stack.wait_until(lambda: not [path for path in scratch.iterdir() if path.name.startswith("ftjob-")], timeout_s=30)
