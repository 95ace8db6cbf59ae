"""Redis wiped while documents are read and a model is trained: rings are lost, no work is, and none is done twice."""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil
import pytest
from redis import Redis

from tests.cluster.servers.redis import RedisServer
from tests.cluster_servers import ClusterServers
from tests.faults.documents import assert_found_once, offer
from tests.faults.index_rows import places
from tests.faults.results import record
from tests.faults.sizes import size
from tests.faults.training_jobs import create, job_of
from tests.many_rooms import Fleet, running_fleet
from tests.running_stack import RunningStack, indexed, new_collection

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WIPES = size(ci=5, release=20)
# Each time.
DOCUMENTS = 4
STEPS = size(ci=8, release=60)


@dataclass(frozen=True)
class House:
    """Rooms whose callers and workers are different processes, on a Redis of their own."""

    fleet: Fleet
    redis: RedisServer

    def client(self, subject: str, role: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.fleet.key(subject, role=role)}"}
        address = self.fleet.plan.room("gateway").addresses.serving
        return httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60)

    def waiting(self, room: str) -> int:
        """Return how many rings of a room nobody has heard yet."""
        with Redis.from_url(self.redis.url) as client:
            return int(client.llen(f"brain.{room}"))

    def wipe(self, *, killed: bool) -> None:
        """Lose everything that Redis held."""
        if not killed:
            with Redis.from_url(self.redis.url) as client:
                client.flushall()
            return
        self.redis.kill()
        shutil.rmtree(self.redis.folder / "appendonlydir")
        self.redis.start()

    @contextmanager
    def frozen(self, room: str) -> Iterator[None]:
        """Freeze a room's worker, and what it started, while the block runs: it hears no ring and does nothing."""
        worker = psutil.Process(self.fleet.processes[f"{room} work 0"].pid)
        family = [worker, *worker.children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGSTOP)
        try:
            # What it had asked Redis for a moment ago is answered, into a connection that nobody reads.
            time.sleep(1.5)
            yield
        finally:
            for process in family:
                if process.is_running():
                    process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def house(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    redis.start()
    environment = {
        "BRAIN_GENERATION_ENGINE": "scripted://?mode=extract",
        "BRAIN_INGESTION_JOBS_URL": f"{redis.url}/0",
        "BRAIN_FINETUNING_JOBS_URL": f"{redis.url}/0",
        "BRAIN_GATEWAY_LIMITS_URL": f"{redis.url}/0",
    }
    try:
        with running_fleet(tmp_path_factory.mktemp("wiped"), environment=environment) as fleet:
            for room in ("generation", "retrieval", "gateway"):
                fleet.start(room, 0, fleet.plan.room(room).addresses.serving, settings={})
            for room in ("ingestion", "finetuning"):
                fleet.start(room, 0, fleet.plan.room(room).addresses.serving, role="serve", settings={})
                fleet.start(room, 0, "127.0.0.1:0", role="work", settings={})
            fleet.wait_ready()
            yield House(fleet, redis)
    finally:
        redis.stop()


def test_all_work_ends_once_whatever_redis_forgets(house: House) -> None:
    lost = 0
    with house.client("kira", "curator") as client, house.client("tara", "trainer") as trainer:
        collection = new_collection(client, "wiped")
        began = time.monotonic()
        job = ""
        for wipe in range(WIPES):
            with house.frozen("ingestion"), house.frozen("finetuning"):
                if wipe == 0:
                    job = create(trainer, max_steps=STEPS, checkpoint_every=STEPS // 2, batch_size=1)
                for number in range(wipe * DOCUMENTS, (wipe + 1) * DOCUMENTS):
                    offer(client, collection, number)
                rooms = ["ingestion", *(["finetuning"] if wipe == 0 else [])]
                RunningStack.wait_until(lambda rung=rooms: all(house.waiting(room) for room in rung))  # type: ignore[misc]
                lost += sum(map(house.waiting, rooms))
                house.wipe(killed=wipe % 2 == 1)
                assert not any(map(house.waiting, rooms)), "the rings must be lost"
            time.sleep(1)
        total = WIPES * DOCUMENTS
        final = indexed(client, collection, total)
        documents_s = time.monotonic() - began
        assert final["completed"] == total, final
        for number in range(0, total, 3):
            assert_found_once(client, collection, number)
        RunningStack.wait_until(
            lambda: job_of(trainer, job)["status"] in {"succeeded", "failed"}, timeout_s=size(ci=300, release=900)
        )
        assert job_of(trainer, job)["status"] == "succeeded", job_of(trainer, job)["error"]
        adapters = [one for one in trainer.get("/brain/v1/adapters").json()["data"] if one["job"] == job]
        assert len([one for one in adapters if not one["step"]]) == 1
    retrieval = house.fleet.plan.room("retrieval")
    rows = places(retrieval.environment, house.fleet.plan.state_dir, collection)
    assert len(rows) == len(set(rows)) == len({row.document_id for row in rows}) == total
    record(
        "Redis wiped",
        held="every document indexed once, one adapter of one job",
        wipes=WIPES,
        rings_lost=lost,
        documents=total,
        all_indexed_after_s=documents_s,
    )


def test_requests_are_answered_while_redis_is_away(house: House) -> None:
    with house.client("vera", "viewer") as client:
        assert client.get("/v1/vector_stores").is_success
        house.redis.kill()
        try:
            answers = [client.get("/v1/vector_stores").status_code for _ in range(20)]
        finally:
            house.redis.start()
        assert set(answers) == {200}
    log = (house.fleet.plan.state_dir / "gateway-0" / "output.log").read_text()
    assert "limits_not_shared" in log, "the absence must have bitten"
