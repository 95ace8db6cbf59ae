"""The doorbell on Celery with Redis: a task that carries nothing and only makes a worker look into the job table.

Celery's worker runs on a thread with the solo pool: forking beside gRPC or CUDA is unsafe. What Redis forgets, or hands out
twice, does no harm: leases, fences and the workers' own looking are the job table's.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from celery import Celery
from celery.worker import WorkController
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from services.chassis.redis_access import RedisAccess

__all__ = ["CeleryBell"]

_log = structlog.get_logger()

# A broker that does not answer within this time has not heard the ring.
_REACH_S: Final = 2.0
# A ring that nobody took is worth nothing once every worker has looked by itself.
_EXPIRES_S: Final = 60
# Redis hands a ring out again that was not acknowledged; rings are answered at once.
_VISIBILITY_S: Final = 60


class CeleryBell:
    """Back end of the bell.

    Args:
        access: Broker.
        room: Whose bell; names the queue and the task.
        wake: Wakes the workers of this process; called on the process's event loop.
    """

    def __init__(self, access: RedisAccess, *, room: str, wake: Callable[[], None]) -> None:
        # It repeats itself while the broker is away; what matters of it is said below.
        logging.getLogger("celery").setLevel(logging.CRITICAL)
        logging.getLogger("kombu").setLevel(logging.CRITICAL)
        self._room = room
        self._wake = wake
        self._app = _app(access, room)

        def look() -> None:
            self._heard()

        self._look = self._app.task(name=f"brain.{room}.look", shared=False)(look)
        self._ringing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bell")
        self._pending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ring(self) -> None:
        """Send one task, unless one is about to be sent."""
        if not self._pending.is_set():
            self._pending.set()
            self._ringing.submit(self._send)

    async def run(self) -> None:
        """Serve the room's queue until cancelled."""
        self._loop = asyncio.get_running_loop()
        worker = WorkController(
            app=self._app,
            pool="solo",
            concurrency=1,
            hostname=f"{self._room}-{os.getpid()}@{socket.gethostname()}",
            queues=[_queue(self._room)],
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )

        def serve() -> None:
            # Its tasks are looked up in the thread's own application.
            self._app.set_current()
            worker.start()

        threading.Thread(target=serve, name="bell-worker", daemon=True).start()
        try:
            await asyncio.Event().wait()
        finally:
            self._loop = None
            await asyncio.to_thread(worker.stop, in_sighandler=True)

    async def close(self) -> None:
        """Send what is pending, and let go of the broker."""
        await asyncio.to_thread(self._ringing.shutdown, wait=True)
        await asyncio.to_thread(self._app.close)

    def _heard(self) -> None:
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._wake)

    def _send(self) -> None:
        self._pending.clear()
        try:
            self._look.apply_async(retry=False, expires=_EXPIRES_S, queue=_queue(self._room))
        except (OperationalError, RedisError, OSError) as error:
            _log.warning("bell_not_heard", room=self._room, reason=repr(error))


def _queue(room: str) -> str:
    return f"brain.{room}"


def _app(access: RedisAccess, room: str) -> Celery:
    app = Celery(f"brain-{room}", broker=access.url, set_as_current=False)
    if access.context:
        app.conf.broker_transport = "services.chassis.jobs.celery_redis:Transport"
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=_queue(room),
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        # For ever: a worker whose broker is away still looks by itself.
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_S,
            "socket_timeout": _REACH_S,
            "socket_connect_timeout": _REACH_S,
            "retry_on_timeout": True,
        },
        broker_use_ssl={"context": access.context} if access.context else None,
    )
    return app
