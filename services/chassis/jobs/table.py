"""The job table: state, lease, heartbeat, fencing token and attempt of every job.

The table, not whatever rings the bell, is the truth. A job whose lease ran out is handed to the next worker with a
higher fencing token; what the late worker then tries to write is refused.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.errors import Conflict
from services.chassis.ids import new_id
from services.chassis.telemetry import current_traceparent

__all__ = ["Job", "JobState", "JobTable", "end_leases", "jobs_table"]


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job.

    Attributes:
        job_id: Id.
        kind: Which handler does it.
        key: What it is about, e.g. a document id.
        tenant: Tenant it belongs to.
        payload: What the handler needs to know; JSON.
        attempt: How often it has been handed out, this time included.
        fence: Token that grows with each hand-out; writes under an older one are refused.
        worker: Who holds it.
        traceparent: Trace that it continues.
    """

    job_id: str
    kind: str
    key: str
    tenant: str
    payload: dict[str, Any]
    attempt: int
    fence: int
    worker: str
    traceparent: str


def jobs_table(metadata: MetaData) -> Table:
    """Return a room's job table; its migration creates the same columns."""
    return Table(
        "jobs",
        metadata,
        Column("job_id", String, primary_key=True),
        Column("kind", String, nullable=False),
        Column("key", String, nullable=False),
        Column("tenant", String, nullable=False),
        Column("payload", JSON, nullable=False),
        Column("state", String, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("worker", String, nullable=False),
        Column("lease_until", Float, nullable=False),
        Column("not_before", Float, nullable=False),
        Column("reason", String, nullable=False),
        Column("traceparent", String, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("updated_at", Float, nullable=False),
        Index("jobs_by_state", "state", "not_before"),
        Index("jobs_by_key", "key"),
    )


async def end_leases(connection: AsyncConnection, table: Table) -> None:
    """Let the next worker have every job that somebody holds: its holder is not there any more. Fences go on growing."""
    await connection.execute(update(table).where(table.c.state == JobState.RUNNING).values(lease_until=0.0))


class JobTable:
    """Hands out jobs, one worker at a time.

    Args:
        database: The room's database.
        table: Its job table.
    """

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table

    async def enqueue(
        self,
        connection: AsyncConnection,
        *,
        kind: str,
        key: str,
        tenant: str,
        payload: dict[str, Any],
        delay_s: float = 0.0,
    ) -> str:
        """Add a job in the transaction that `connection` is in; return its id."""
        now = time.time()
        job_id = new_id("job_")
        await connection.execute(
            insert(self._table).values(
                job_id=job_id,
                kind=kind,
                key=key,
                tenant=tenant,
                payload=payload,
                state=JobState.QUEUED,
                attempt=0,
                fence=0,
                worker="",
                lease_until=0.0,
                not_before=now + delay_s,
                reason="",
                traceparent=current_traceparent(),
                created_at=now,
                updated_at=now,
            )
        )
        return job_id

    async def claim(self, worker: str, kinds: Sequence[str], *, lease_s: float) -> Job | None:
        """Hand out the oldest job that is due or whose holder's lease ran out; None when there is none."""
        columns, now = self._table.c, time.time()
        due = and_(columns.state == JobState.QUEUED, columns.not_before <= now)
        lost = and_(columns.state == JobState.RUNNING, columns.lease_until < now)
        query = select(self._table).where(columns.kind.in_(kinds), or_(due, lost)).order_by(columns.not_before).limit(1)
        # Looked at outside a write transaction first: an idle worker must not make writers wait.
        async with self._database.connect() as connection:
            if (await connection.execute(query)).first() is None:
                return None
        async with self._database.begin() as connection:
            row = (await connection.execute(query.with_for_update(skip_locked=True))).first()
            if row is None:
                return None
            await connection.execute(
                update(self._table)
                .where(columns.job_id == row.job_id)
                .values(
                    state=JobState.RUNNING,
                    attempt=row.attempt + 1,
                    fence=row.fence + 1,
                    worker=worker,
                    lease_until=now + lease_s,
                    updated_at=now,
                )
            )
        return Job(
            job_id=row.job_id,
            kind=row.kind,
            key=row.key,
            tenant=row.tenant,
            payload=row.payload,
            attempt=row.attempt + 1,
            fence=row.fence + 1,
            worker=worker,
            traceparent=row.traceparent,
        )

    async def heartbeat(self, job: Job, *, lease_s: float) -> None:
        """Extend the lease.

        Raises:
            Conflict: The job was cancelled or handed to another worker.
        """
        async with self._database.begin() as connection:
            await self._write(connection, job, lease_until=time.time() + lease_s)

    async def hold(self, connection: AsyncConnection, job: Job) -> None:
        """Make sure, in the transaction that `connection` is in, that the job is still this worker's.

        Raises:
            Conflict: The job was cancelled or handed to another worker; roll the transaction back.
        """
        await self._write(connection, job)

    async def complete(self, connection: AsyncConnection, job: Job) -> None:
        """Note success in the transaction that holds the result.

        Raises:
            Conflict: The job was cancelled or handed to another worker; roll the result back.
        """
        await self._write(connection, job, state=JobState.SUCCEEDED, reason="")

    async def fail(self, connection: AsyncConnection, job: Job, reason: str) -> None:
        """Note failure for good.

        Raises:
            Conflict: The job was cancelled or handed to another worker.
        """
        await self._write(connection, job, state=JobState.FAILED, reason=reason)

    async def retry(self, connection: AsyncConnection, job: Job, reason: str, *, delay_s: float) -> None:
        """Put the job back, due after `delay_s` seconds.

        Raises:
            Conflict: The job was cancelled or handed to another worker.
        """
        await self._write(
            connection, job, state=JobState.QUEUED, reason=reason, not_before=time.time() + delay_s, lease_until=0.0
        )

    async def cancel(self, connection: AsyncConnection, key: str) -> int:
        """Cancel every unfinished job about `key`; return how many. Its holder finds out at the next write."""
        columns = self._table.c
        result = await connection.execute(
            update(self._table)
            .where(columns.key == key, columns.state.in_([JobState.QUEUED, JobState.RUNNING]))
            .values(state=JobState.CANCELLED, updated_at=time.time())
        )
        return int(result.rowcount)

    async def depth(self) -> int:
        """Return the number of jobs that are queued or running."""
        columns = self._table.c
        unfinished = columns.state.in_([JobState.QUEUED, JobState.RUNNING])
        async with self._database.connect() as connection:
            rows = await connection.execute(select(columns.job_id).where(unfinished))
            return len(rows.all())

    async def _write(self, connection: AsyncConnection, job: Job, **values: Any) -> None:
        columns = self._table.c
        result = await connection.execute(
            update(self._table)
            .where(columns.job_id == job.job_id, columns.fence == job.fence, columns.state == JobState.RUNNING)
            .values(updated_at=time.time(), **values)
        )
        if result.rowcount == 0:
            raise Conflict(f"Job {job.job_id} is no longer held by this worker.")
