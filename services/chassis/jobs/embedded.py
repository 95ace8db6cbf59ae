"""The local worker: claims jobs from the table and runs their handlers in this process."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from services.chassis.database import Database
from services.chassis.errors import BrainError, Conflict, DeadlineExceeded, Internal, Overloaded, Unavailable
from services.chassis.jobs.table import Job, JobTable
from services.chassis.telemetry import continued_trace

__all__ = ["EmbeddedWorker"]

_log = structlog.get_logger()

_TRANSIENT: Final = (Unavailable, DeadlineExceeded, Overloaded)


class EmbeddedWorker:
    """Runs jobs, `concurrency` at a time.

    A handler notes success itself, in the transaction that holds its result (`JobTable.complete`). A transient error
    puts the job back; any other, and the last of `max_attempts`, fails it after `on_failed` has brought whatever the
    job was about to a final state.

    Args:
        table: The jobs.
        database: The room's database.
        handlers: What does each kind.
        on_failed: Called with the job and the reason before the job is failed.
        concurrency: Jobs at a time.
        lease_s: How long a worker that fell silent keeps a job.
        max_attempts: How often a job is handed out.
        poll_s: How often to look without being woken.
    """

    def __init__(
        self,
        *,
        table: JobTable,
        database: Database,
        handlers: Mapping[str, Callable[[Job], Awaitable[None]]],
        on_failed: Callable[[Job, BrainError], Awaitable[None]],
        concurrency: int = 1,
        lease_s: float = 30.0,
        max_attempts: int = 5,
        poll_s: float = 1.0,
    ) -> None:
        self._table = table
        self._database = database
        self._handlers = handlers
        self._on_failed = on_failed
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._poll_s = poll_s
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def wake(self) -> None:
        """Look now: a job was added."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; running handlers are cancelled with it, and their jobs return when the lease ends."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._concurrency):
                group.create_task(self._work(f"{self._name}:{number}"))

    async def _work(self, worker: str) -> None:
        while True:
            # One looks for all that have nothing to do.
            async with self._looking:
                job = await self._found(worker)
            await self._perform(job)

    async def _found(self, worker: str) -> Job:
        """Return the next job, as soon as there is one."""
        while True:
            self._woken.clear()
            try:
                job = await self._table.claim(worker, list(self._handlers), lease_s=self._lease_s)
            except Unavailable as error:
                _log.warning("worker_waits", reason=error.message)
                job = None
            if job is not None:
                return job
            with contextlib.suppress(TimeoutError):
                # Jittered, so that several workers do not look in the same moment. Not `wait_for`: before Python 3.12 it
                # loses a cancellation that comes together with the event.
                async with asyncio.timeout(self._poll_s * random.uniform(0.5, 1.5)):  # noqa: S311
                    await self._woken.wait()

    async def _perform(self, job: Job) -> None:
        """Run one job to success, retry or failure."""
        try:
            with continued_trace(f"job {job.kind}", job.traceparent, {"brain.job.attempt": job.attempt}):
                await self._run_held(job)
        except Conflict as error:
            _log.info("job_lost", job_id=job.job_id, kind=job.kind, reason=error.message)
        except _TRANSIENT as error:
            await self._end(job, error, final=job.attempt >= self._max_attempts)
        except BrainError as error:
            await self._end(job, error, final=True)
        except Exception as error:  # noqa: BLE001  the outermost loop of a job
            _log.error("job_crashed", job_id=job.job_id, kind=job.kind, exc_info=error)
            failure = Internal("Something went wrong on our side; the log has the details.", private=repr(error))
            await self._end(job, failure, final=job.attempt >= self._max_attempts)

    async def _run_held(self, job: Job) -> None:
        """Run the handler while the lease is held; stop it when the lease is lost."""
        if job.attempt > self._max_attempts:
            raise Internal(f"The work was started {job.attempt - 1} times and never came to an end.")
        work = asyncio.ensure_future(self._handlers[job.kind](job))
        beat = asyncio.create_task(self._beat(job))
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                await beat
                return
            await work
        finally:
            for task in (work, beat):
                task.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)

    async def _beat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with contextlib.suppress(Unavailable):
                await self._table.heartbeat(job, lease_s=self._lease_s)

    async def _end(self, job: Job, error: BrainError, *, final: bool) -> None:
        _log.warning(
            "job_failed" if final else "job_retried",
            job_id=job.job_id,
            kind=job.kind,
            attempt=job.attempt,
            reason=error.message,
            private=error.private,
        )
        try:
            if final:
                await self._on_failed(job, error)
            async with self._database.begin() as connection:
                if final:
                    await self._table.fail(connection, job, error.message)
                else:
                    await self._table.retry(connection, job, error.message, delay_s=min(60.0, 0.5 * 2**job.attempt))
        except (Conflict, Unavailable) as fault:
            # Whoever holds the job now, or claims it when the lease has run out, brings it to its end.
            _log.warning("job_end_not_noted", job_id=job.job_id, reason=fault.message)
