import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from sqlalchemy import MetaData, select

from services.chassis.database import Database
from services.chassis.errors import BrainError, Conflict, InvalidInput, Unavailable
from services.chassis.jobs.embedded import EmbeddedWorker
from services.chassis.jobs.table import Job, JobTable, jobs_table
from tests.fresh_databases import make_tables

metadata = MetaData()
TABLE = jobs_table(metadata)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await make_tables(opened, metadata)
    yield opened
    await opened.close()


@pytest.fixture
def jobs(database: Database) -> JobTable:
    return JobTable(database, TABLE)


async def add(database: Database, jobs: JobTable, key: str = "doc_1") -> None:
    async with database.begin() as connection:
        await jobs.enqueue(connection, kind="parse", key=key, tenant="acme", payload={"version": 1})


async def states(database: Database) -> list[tuple[str, str]]:
    async with database.connect() as connection:
        rows = await connection.execute(select(TABLE.c.state, TABLE.c.reason).order_by(TABLE.c.created_at))
        return [(row.state, row.reason) for row in rows]


async def test_a_job_is_handed_out_once(database: Database, jobs: JobTable) -> None:
    await add(database, jobs)
    claimed = await asyncio.gather(*(jobs.claim(f"w{n}", ["parse"], lease_s=30) for n in range(4)))
    assert len([job for job in claimed if job]) == 1
    assert await jobs.claim("w", ["other"], lease_s=30) is None


async def test_a_silent_workers_job_moves_on_and_its_late_result_is_refused(database: Database, jobs: JobTable) -> None:
    await add(database, jobs)
    late = await jobs.claim("slow", ["parse"], lease_s=-1)
    taken = await jobs.claim("quick", ["parse"], lease_s=30)
    assert late is not None
    assert taken is not None
    assert (taken.attempt, taken.fence) == (2, 2)
    with pytest.raises(Conflict):
        await jobs.heartbeat(late, lease_s=30)
    with pytest.raises(Conflict):
        async with database.begin() as connection:
            await jobs.complete(connection, late)
    async with database.begin() as connection:
        await jobs.complete(connection, taken)
    assert await states(database) == [("succeeded", "")]


async def test_a_cancelled_job_cannot_be_completed(database: Database, jobs: JobTable) -> None:
    await add(database, jobs)
    job = await jobs.claim("w", ["parse"], lease_s=30)
    assert job is not None
    async with database.begin() as connection:
        assert await jobs.cancel(connection, "doc_1") == 1
    with pytest.raises(Conflict):
        async with database.begin() as connection:
            await jobs.complete(connection, job)


async def work(
    database: Database, jobs: JobTable, handler: Callable[[Job], Awaitable[None]], failed: list[str]
) -> None:
    async def on_failed(job: Job, error: BrainError) -> None:
        failed.append(f"{job.key}: {error.message}")

    worker = EmbeddedWorker(
        table=jobs,
        database=database,
        handlers={"parse": handler},
        on_failed=on_failed,
        lease_s=0.6,
        max_attempts=2,
        poll_s=0.02,
    )
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while await jobs.depth():
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_worker_completes_fails_and_retries(database: Database, jobs: JobTable) -> None:
    for key in ("good", "bad", "flaky"):
        await add(database, jobs, key)
    seen: list[str] = []

    async def handler(job: Job) -> None:
        seen.append(job.key)
        if job.key == "bad":
            raise InvalidInput("The file is empty.")
        if job.key == "flaky" and job.attempt == 1:
            raise Unavailable("The index is away.")
        async with database.begin() as connection:
            await jobs.complete(connection, job)

    failed: list[str] = []
    await work(database, jobs, handler, failed)
    assert sorted(seen) == ["bad", "flaky", "flaky", "good"]
    assert failed == ["bad: The file is empty."]
    assert await states(database) == [("succeeded", ""), ("failed", "The file is empty."), ("succeeded", "")]


async def test_idle_workers_look_as_one_and_take_jobs_together(
    database: Database, jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    claim = jobs.claim

    async def counted(worker: str, kinds: Sequence[str], *, lease_s: float) -> Job | None:
        nonlocal looks
        looks += 1
        return await claim(worker, kinds, lease_s=lease_s)

    monkeypatch.setattr(jobs, "claim", counted)
    together = asyncio.Barrier(3)

    async def handler(job: Job) -> None:
        await together.wait()
        async with database.begin() as connection:
            await jobs.complete(connection, job)

    async def on_failed(job: Job, error: BrainError) -> None:
        pytest.fail(f"{job.key}: {error.message}")

    worker = EmbeddedWorker(
        table=jobs, database=database, handlers={"parse": handler}, on_failed=on_failed, concurrency=3, poll_s=3600
    )
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0.2)
    for key in ("one", "two", "three"):
        await add(database, jobs, key)
    worker.wake()
    async with asyncio.timeout(60):
        while await jobs.depth():
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await states(database) == [("succeeded", "")] * 3
    # One in vain, one for each job, one in vain.
    assert looks <= 5


async def test_a_long_job_keeps_its_lease(database: Database, jobs: JobTable) -> None:
    await add(database, jobs)
    starts = 0

    async def handler(job: Job) -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(1.5)
        async with database.begin() as connection:
            await jobs.complete(connection, job)

    await work(database, jobs, handler, [])
    assert starts == 1


async def test_a_crashing_handler_ends_failed(database: Database, jobs: JobTable) -> None:
    await add(database, jobs)

    async def handler(job: Job) -> None:
        raise ZeroDivisionError

    failed: list[str] = []
    await work(database, jobs, handler, failed)
    assert len(failed) == 1
    [(state, reason)] = await states(database)
    assert state == "failed"
    assert "our side" in reason
