"""The life of a process: background tasks that must not die quietly, signals, and an ordered shutdown."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from services.chassis.errors import BrainError, InvalidInput, Unsupported

__all__ = ["Lifecycle", "run"]

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")
# As `settings.load` ends it: another start with the same settings would end the same.
_BAD_SETTINGS = 2


class Lifecycle:
    """Supervises one process's tasks and takes them down in order.

    Stop functions run last-in first-out when a signal arrives or a background task crashes; a crash makes the process
    end with status 1, so that whoever supervises it starts it again.
    """

    def __init__(self, room: str) -> None:
        self._room = room
        self._tasks: list[asyncio.Task[None]] = []
        self._stops: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._ended = asyncio.Event()
        self._crash: BaseException | None = None

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` beside everything else; it is cancelled at the shutdown, in the order of `on_stop`."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._watch)
        self._tasks.append(task)
        self.on_stop(lambda: self._cancel(task), name=name)

    def on_stop(self, stop: Callable[[], Awaitable[None]], *, name: str = "") -> None:
        """Call `stop` at the shutdown, before everything that was registered earlier."""
        self._stops.append((name, stop))

    def end(self, crash: BaseException | None = None) -> None:
        """Begin the shutdown; with `crash` the process ends with status 1."""
        self._crash = self._crash or crash
        self._ended.set()

    async def run_until_signal(self) -> None:
        """Wait for SIGTERM, SIGINT or a crash, then stop everything.

        Raises:
            SystemExit: With status 1 after a crash.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        await self._ended.wait()
        _log.info("room_stopping", room=self._room, crashed=self._crash is not None)
        await self.stop()
        _log.info("room_stopped", room=self._room)
        if self._crash is not None:
            raise SystemExit(1)

    async def stop(self) -> None:
        """Stop everything, for a process that ends by itself."""
        while self._stops:
            name, stop = self._stops.pop()
            try:
                await stop()
            except Exception as error:  # noqa: BLE001  the outermost loop: the rest must still be stopped
                _log.error("stop_failed", stop=name, error=repr(error))

    def _watch(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("task_crashed", task=task.get_name(), exc_info=error)
            self.end(error)
        elif not self._ended.is_set():
            _log.error("task_ended_early", task=task.get_name())
            self.end(RuntimeError(f"task {task.get_name()} ended early"))

    @staticmethod
    async def _cancel(task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if not task.done():
                await task


def run(work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Run a process's main coroutine to its end; return what it comes to.

    Raises:
        SystemExit: It could not start; the log says why. Status 2 for what is set wrongly, 1 for everything else.
    """
    try:
        return asyncio.run(work)
    except BrainError as error:
        _log.error("cannot_start", reason=error.message, private=error.private)
        raise SystemExit(_BAD_SETTINGS if isinstance(error, InvalidInput | Unsupported) else 1) from error
