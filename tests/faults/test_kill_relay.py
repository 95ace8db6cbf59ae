"""A relay that is killed between publishing and marking publishes again: the same facts, many times, and one effect of each."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import func, select

from brain.events.v1.index_pb2 import IndexEvent
from services.chassis.database import Database
from services.chassis.events.log import Envelope, open_event_log
from services.ingestion.backends import tables
from tests.faults.documents import assert_found_once, offer
from tests.faults.index_rows import places
from tests.faults.results import record
from tests.faults.revisions import assert_newest_only, offer_revision, pages_of
from tests.faults.sizes import size
from tests.many_rooms import Fleet, running_fleet
from tests.running_stack import ROOT, RunningStack, counts, indexed, new_collection

pytestmark = pytest.mark.timeout(size(ci=600, release=1800))

KILLS = size(ci=20, release=100)
DOCUMENTS, REPLACED, DELETED = 12, range(4), range(3)
# Nobody listens there: who is told that the log is there keeps its facts for itself.
NOWHERE = "kafka://127.0.0.1:1"


@dataclass(frozen=True)
class Office:
    """Callers are served; nobody reads documents until a worker is started."""

    fleet: Fleet

    def client(self) -> httpx.Client:
        key = self.fleet.key("rita", role="administrator")
        return httpx.Client(base_url=self.fleet.plan.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def setting(self, name: str) -> str:
        return self.fleet.plan.room("ingestion").environment[f"BRAIN_INGESTION_{name}"]

    def start_worker(self, number: int, **settings: str) -> None:
        self.fleet.start("ingestion", number, "127.0.0.1:0", role="work", settings=settings)
        self.fleet.wait_ready()

    def pending(self) -> int:
        """How many facts wait in the outbox."""

        async def count() -> int:
            database = Database(self.setting("DATABASE_URL"))
            try:
                async with database.connect() as connection:
                    return await connection.scalar(select(func.count()).select_from(tables.outbox)) or 0
            finally:
                await database.close()

        return asyncio.run(count())

    def told(self, topic: str) -> list[Envelope]:
        """Everything that ever stood in a topic, read as a group that nobody else is in."""

        async def read() -> list[Envelope]:
            log = open_event_log(self.setting("EVENTS_URL"))
            found: list[Envelope] = []
            group = f"test-{time.monotonic_ns()}"
            try:
                while records := await log.read(topic, group, limit=500, wait_s=5.0):
                    found += [one.envelope for one in records]
                    for one in {one.partition: one for one in records}.values():
                        await log.commit(group, one)
            finally:
                await log.close()
            return found

        return asyncio.run(read())


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with running_fleet(tmp_path_factory.mktemp("relay"), environment={}) as fleet:
        for room, role in (("retrieval", ""), ("ingestion", "serve"), ("finetuning", ""), ("gateway", "")):
            fleet.start(room, 0, fleet.plan.room(room).addresses.serving, role=role, settings={})
        fleet.wait_ready()
        yield Office(fleet)


def states(client: httpx.Client, collection: str) -> list[str]:
    page = client.get("/brain/v1/documents", params={"collection": collection, "limit": 1000}).json()
    return [one["state"] for one in page["data"]]


def test_a_relay_killed_between_publishing_and_marking(office: Office) -> None:
    with office.client() as client:
        collection = new_collection(client, "relayed")
        # Read by a worker that does not reach the log: what it has to tell waits in the outbox.
        office.start_worker(0, BRAIN_INGESTION_EVENTS_URL=NOWHERE)

        def all_read() -> bool:
            return set(states(client, collection)) == {"chunked"}

        ids = [offer(client, collection, number) for number in range(DOCUMENTS)]
        for revision in (1, 2):
            for number in REPLACED:
                offer_revision(client, collection, number, revision)
            RunningStack.wait_until(all_read)
        for number in DELETED:
            assert client.delete(f"/brain/v1/documents/{ids[number]}").is_success
        left = DOCUMENTS + len(REPLACED) - len(DELETED)
        office.fleet.stop("ingestion work 0")
        facts = office.pending()
        assert facts >= DOCUMENTS + 2 * len(REPLACED) + len(DELETED)

        relay = [
            sys.executable,
            "-m",
            "tests.faults.mortal_relay",
            office.setting("DATABASE_URL"),
            office.setting("EVENTS_URL"),
        ]
        for _ in range(KILLS):
            died = subprocess.run(relay, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
            assert died.returncode == -signal.SIGKILL, died.stderr
            assert office.pending() == facts, "it died before it marked anything"

        began = time.monotonic()
        office.start_worker(1)
        RunningStack.wait_until(lambda: office.pending() == 0)
        final = indexed(client, collection, left)
        settled_s = time.monotonic() - began
        assert final["completed"] == left, counts(client, collection)
        expected = DOCUMENTS - len(DELETED) + len(REPLACED) * pages_of(2)
        environment, folder = office.fleet.plan.room("retrieval").environment, office.fleet.plan.state_dir
        RunningStack.wait_until(lambda: len(places(environment, folder, collection)) == expected)
        assert len(set(places(environment, folder, collection))) == expected
        for number in range(len(DELETED), DOCUMENTS):
            assert_found_once(client, collection, number)
        assert_newest_only(client, collection, REPLACED, revision=2)
        for number in DELETED:
            assert client.get(f"/brain/v1/documents/{ids[number]}").status_code == 404

    times = Counter(one.event_id for one in office.told("brain.document.v1"))
    assert len(times) == facts
    assert min(times.values()) > KILLS, "the kills must have bitten: every fact was told again after each"
    # What it brought about was told once of each version.
    effects = Counter(
        (one.key, fact.version_indexed.version)
        for one in office.told("brain.index.v1")
        if (fact := IndexEvent.FromString(one.payload)).WhichOneof("fact") == "version_indexed"
    )
    assert max(effects.values()) == 1, effects
    assert office.told("brain.document.v1.dlt") == []
    record(
        "relay killed between publish and mark",
        held="every fact told again after each kill; duplicate chunks 0, each version indexed once, dead letters 0",
        kills=KILLS,
        facts=facts,
        records=sum(times.values()),
        settled_s=settled_s,
    )
