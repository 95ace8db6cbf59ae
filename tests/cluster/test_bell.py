"""The doorbell on Celery and Redis, over the job table: it makes work begin at once, and nothing depends on it."""

import asyncio
import pickle
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import MetaData, select

from services.chassis.database import Database
from services.chassis.errors import BrainError, InvalidInput
from services.chassis.jobs.bell import Bell, open_bell
from services.chassis.jobs.embedded import EmbeddedWorker
from services.chassis.jobs.table import Job, JobTable, jobs_table
from services.chassis.redis_access import RedisAccess
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster

metadata = MetaData()
TABLE = jobs_table(metadata)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/jobs.db")
    async with opened.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield opened
    await opened.close()


@pytest.fixture
def room() -> str:
    """A room of the test's own: its queue holds nothing of others."""
    return f"kitchen-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker(cluster: ClusterServers) -> Iterator[Any]:
    client = redis.Redis.from_url(cluster.redis)
    yield client
    client.close()


@asynccontextmanager
async def hanging(url: str, room: str, wake: Any) -> AsyncIterator[Bell]:
    """A bell that is heard in this process."""
    bell = open_bell(RedisAccess(url), room=room, wake=wake)
    assert bell is not None
    hearing = asyncio.create_task(bell.run())
    yield bell
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    await bell.close()


@asynccontextmanager
async def working(database: Database, done: list[str], *, poll_s: float) -> AsyncIterator[EmbeddedWorker]:
    jobs = JobTable(database, TABLE)

    async def cook(job: Job) -> None:
        async with database.begin() as connection:
            await jobs.complete(connection, job)
        done.append(job.key)

    async def on_failed(job: Job, error: BrainError) -> None:
        raise AssertionError(job, error)

    worker = EmbeddedWorker(
        table=jobs, database=database, handlers={"cook": cook}, on_failed=on_failed, concurrency=2, poll_s=poll_s
    )
    running = asyncio.create_task(worker.run())
    yield worker
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def order(database: Database, key: str) -> None:
    async with database.begin() as connection:
        await JobTable(database, TABLE).enqueue(connection, kind="cook", key=key, tenant="acme", payload={})


async def until(done: list[str], count: int) -> None:
    async with asyncio.timeout(60):
        while len(done) < count:
            await asyncio.sleep(0.01)


async def test_a_ring_of_another_process_begins_the_work(
    cluster: ClusterServers, database: Database, room: str
) -> None:
    done: list[str] = []
    # Whoever looks by itself looks after the test: only rings make the work begin.
    async with working(database, done, poll_s=10_000) as worker, hanging(cluster.redis, room, worker.wake):
        caller = open_bell(RedisAccess(cluster.redis), room=room, wake=lambda: None)
        assert caller is not None
        for number in range(20):
            await order(database, f"dish-{number}")
            caller.ring()
            await until(done, number + 1)
        await caller.close()
    assert sorted(done) == sorted(f"dish-{number}" for number in range(20))


async def test_rings_of_another_room_wake_nobody_here(cluster: ClusterServers, room: str) -> None:
    woken: list[None] = []
    async with hanging(cluster.redis, room, lambda: woken.append(None)) as bell:
        other = open_bell(RedisAccess(cluster.redis), room=f"{room}-other", wake=lambda: None)
        assert other is not None
        other.ring()
        await other.close()
        bell.ring()
        async with asyncio.timeout(30):
            while not woken:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
    assert len(woken) == 1


async def test_wiping_the_broker_loses_no_work(
    cluster: ClusterServers, database: Database, room: str, broker: Any
) -> None:
    done: list[str] = []
    caller = open_bell(RedisAccess(cluster.redis), room=room, wake=lambda: None)
    assert caller is not None
    # Nobody hears yet: the ring waits in the queue, and the queue is lost.
    await order(database, "before")
    caller.ring()
    async with asyncio.timeout(30):
        while not broker.llen(f"brain.{room}"):
            await asyncio.sleep(0.01)
    broker.delete(f"brain.{room}")
    async with working(database, done, poll_s=0.5) as worker, hanging(cluster.redis, room, worker.wake):
        await until(done, 1)
        await order(database, "after")
        caller.ring()
        await until(done, 2)
    await caller.close()
    async with database.connect() as connection:
        states = (await connection.execute(select(TABLE.c.state))).scalars().all()
    assert set(states) == {"succeeded"}


async def test_a_broker_that_is_away_stops_neither_callers_nor_work(
    database: Database, room: str, unused_tcp_port: int
) -> None:
    done: list[str] = []
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    caller = open_bell(RedisAccess(url), room=room, wake=lambda: None)
    assert caller is not None
    async with working(database, done, poll_s=0.2) as worker, hanging(url, room, worker.wake):
        await order(database, "dish")
        caller.ring()
        await until(done, 1)
    await caller.close()


async def test_what_is_no_json_is_not_read(cluster: ClusterServers, room: str, broker: Any, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    woken: list[None] = []
    from kombu import Connection

    async with hanging(cluster.redis, room, lambda: woken.append(None)) as bell:
        with Connection(cluster.redis) as connection:
            queue = connection.SimpleQueue(f"brain.{room}")
            queue.put(
                pickle.dumps(Hostile()),
                content_type="application/x-python-serialize",
                content_encoding="binary",
                headers={"task": f"brain.{room}.look", "id": uuid.uuid4().hex},
            )
            queue.close()
        bell.ring()
        async with asyncio.timeout(60):
            while not woken:
                await asyncio.sleep(0.01)
    assert not (tmp_path / "owned").exists()


def test_a_broker_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="amqp"):
        open_bell(RedisAccess("amqp://host"), room="kitchen", wake=lambda: None)
    assert open_bell(RedisAccess("local://"), room="kitchen", wake=lambda: None) is None
