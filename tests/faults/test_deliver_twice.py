"""One training job, handed out twice: one worker does it, a copy that comes late changes nothing, one adapter comes of it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest

from services.chassis.jobs.bell import open_bell
from services.chassis.redis_access import RedisAccess
from tests.cluster_servers import ClusterServers
from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.faults.training_jobs import create, events, job_of, steps, trainers
from tests.many_rooms import Fleet, running_fleet
from tests.running_stack import RunningStack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(size(ci=1200, release=3600))]

# How often the job goes to the other worker while the one that had it is silent.
HAND_OVERS = size(ci=2, release=8)
EVERY = 4
STEPS = 16 * (HAND_OVERS + 1)
# Short, and so long that a busy machine does not take a job from a worker that is awake.
LEASE_S = 8
RINGS = 5
WORKERS = ("finetuning work 0", "finetuning work 1")


@dataclass(frozen=True)
class Office:
    """Everything that a job needs, and two workers to do it."""

    fleet: Fleet

    def client(self) -> httpx.Client:
        key = self.fleet.key("tara", role="trainer")
        return httpx.Client(base_url=self.fleet.plan.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def busy(self) -> list[str]:
        """The workers that have a trainer."""
        return [name for name in WORKERS if trainers(self.fleet.processes[name].pid)]

    def lost(self, worker: str) -> int:
        """How often a worker learnt that a job had gone to another."""
        return (self.fleet.plan.state_dir / worker.replace(" ", "-") / "output.log").read_text().count('"job_lost"')


@pytest.fixture(scope="module")
def office(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    settings = {
        "BRAIN_GENERATION_ENGINE": "scripted://?mode=extract",
        "BRAIN_FINETUNING_JOB_LEASE_S": str(LEASE_S),
    }
    with running_fleet(tmp_path_factory.mktemp("twice"), environment=settings) as fleet:
        for room, role in (
            ("generation", ""),
            ("ingestion", "serve"),
            ("retrieval", "serve"),
            ("finetuning", "serve"),
            ("gateway", ""),
        ):
            fleet.start(room, 0, fleet.plan.room(room).addresses.serving, role=role, settings={})
        for number in range(2):
            fleet.start("finetuning", number, "127.0.0.1:0", role="work", settings={})
        fleet.wait_ready()
        yield Office(fleet)


@contextmanager
def frozen(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_job_handed_out_twice_makes_one_adapter(office: Office) -> None:
    with office.client() as client:
        job = create(client, max_steps=STEPS, checkpoint_every=EVERY, batch_size=1)

        def reached(step: int) -> bool:
            return max(steps(client, job), default=0) >= step

        # Rung again and again: both hear it, and one has it.
        bell = open_bell(
            RedisAccess(office.fleet.plan.room("finetuning").environment["BRAIN_FINETUNING_JOBS_URL"]),
            room="finetuning",
            wake=lambda: None,
        )
        assert bell is not None
        RunningStack.wait_until(lambda: bool(office.busy()), timeout_s=300)
        for _ in range(RINGS):
            bell.ring()
            time.sleep(0.2)
        RunningStack.wait_until(lambda: reached(2), timeout_s=600)
        assert len(office.busy()) == 1, "rung or not, one worker has the job"

        taken_s: list[float] = []
        for hand_over in range(HAND_OVERS):
            RunningStack.wait_until(lambda aim=hand_over * 12 + EVERY + 2: reached(aim), timeout_s=600)  # type: ignore[misc]
            (holder,) = office.busy()
            other = next(name for name in WORKERS if name != holder)
            known = office.lost(holder)
            began = time.monotonic()
            with frozen(office.fleet.processes[holder].pid):
                RunningStack.wait_until(lambda other=other: other in office.busy(), timeout_s=300)  # type: ignore[misc]
                taken_s.append(time.monotonic() - began)
                told = len(steps(client, job))
                RunningStack.wait_until(lambda told=told: len(steps(client, job)) > told, timeout_s=600)  # type: ignore[misc]
            # The silent worker's trainer went on meanwhile. Woken, the worker wants to tell what came of it, and is told that
            # this is not its job any more.
            RunningStack.wait_until(lambda holder=holder, known=known: office.lost(holder) > known, timeout_s=120)  # type: ignore[misc]
            RunningStack.wait_until(lambda holder=holder: holder not in office.busy(), timeout_s=120)  # type: ignore[misc]
            assert job_of(client, job)["status"] == "running"

        RunningStack.wait_until(lambda: job_of(client, job)["status"] in {"succeeded", "failed"}, timeout_s=900)
        final = job_of(client, job)
        assert final["status"] == "succeeded", final["error"]
        said = [event["message"] for event in events(client, job)]
        lost = sum("The worker was lost" in one for one in said)
        assert lost >= HAND_OVERS, "the job must have been handed out again each time"
        assert sum(one == "Fine-tuning job started" for one in said) == 1
        told_of = steps(client, job)
        assert max(told_of) == STEPS
        back = [before - after for before, after in pairwise(told_of) if after < before]
        # After a hand-over steps are told again from the newest checkpoint; a late copy that told of its own would show here.
        assert len(back) <= lost, back
        own = [one for one in client.get("/brain/v1/adapters").json()["data"] if one["job"] == job]
        assert [one["name"] for one in own if not one["step"]] == [final["fine_tuned_model"]]
        assert len({one["name"] for one in own}) == len(own)
    record(
        "one job delivered twice",
        held="one worker ran it however often it was rung, late copies were fenced, exactly one adapter version",
        hand_overs=HAND_OVERS,
        rings=RINGS,
        lease_s=LEASE_S,
        **over("taken_over", taken_s),
    )
