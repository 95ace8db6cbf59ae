"""Starts the rooms' processes, watches them, and takes them down."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import BrainError, InvalidInput, Unavailable
from services.chassis.rpc.client import connect, is_serving
from services.local.plan import RoomPlan, StackPlan

__all__ = ["Supervisor"]

_log = structlog.get_logger()

# A room that dies younger than this is started again with growing pauses.
_STABLE_S: Final = 20.0
_MAX_PAUSE_S: Final = 10.0
_PROBE_PAUSE_S: Final = 0.2
# Exit status of a room whose settings are wrong: another start would end the same.
_BAD_SETTINGS: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it does."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Keeps every room of a plan running.

    Args:
        plan: What to run.
        on_progress: Told (room, state) whenever something changes: starting, ready, died.
        stop_timeout_s: How long a room may take to end before it is killed.
    """

    def __init__(
        self,
        plan: StackPlan,
        *,
        on_progress: Callable[[str, str], None] = lambda _room, _state: None,
        stop_timeout_s: float = 20.0,
    ) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._stop_timeout_s = stop_timeout_s
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._restarts: dict[str, int] = {room.name: 0 for room in plan.rooms}
        self._ready: dict[str, asyncio.Event] = {room.name: asyncio.Event() for room in plan.rooms}
        # Rooms that have been ready: their settings are good.
        self._proven: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None

    async def start(self, *, timeout_s: float) -> None:
        """Start every room and return when all can do their duty.

        Raises:
            Unavailable: A room did not get there in time, or refuses its settings; its last log lines are in the
                message.
        """
        self._failed = asyncio.get_running_loop().create_future()
        for room in self._plan.rooms:
            task = asyncio.create_task(self._keep(room), name=room.name)
            task.add_done_callback(self._on_kept)
            self._tasks.append(task)
        ready = asyncio.create_task(self._all_ready())
        await asyncio.wait([ready, self._failed], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            ready.cancel()
            self._failed.result()
        if not ready.done():
            ready.cancel()
            late = [room for room in self._plan.rooms if not self._ready[room.name].is_set()]
            tails = "\n".join(f"{room.name}:\n{_tail(room.log_file)}" for room in late)
            raise Unavailable(f"Not ready after {timeout_s:g} s: {', '.join(r.name for r in late)}.\n{tails}")
        self._write_state(ready=True)

    async def _all_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def wait_failed(self) -> None:
        """Wait until a room cannot be kept running.

        Raises:
            Unavailable: It refuses its settings, or the machine does not let it be started.
        """
        if self._failed is not None:
            await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Take the rooms down, callers before callees."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for room in reversed(self._plan.rooms):
            process = self._processes.get(room.name)
            if process is not None:
                await _end(process, self._stop_timeout_s)
                self._on_progress(room.name, "stopped")
        with contextlib.suppress(FileNotFoundError):
            (self._plan.state_dir / "local.json").unlink()

    async def _keep(self, room: RoomPlan) -> None:
        """Run one room for ever: start, watch, start again.

        Raises:
            Unavailable: It refuses its settings.
        """
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            process = await self._launch(room)
            watcher = asyncio.create_task(self._watch_ready(room))
            try:
                status = await process.wait()
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
            self._ready[room.name].clear()
            # What the room had started (engine workers, parser children) must not outlive it.
            _kill_group(process)
            self._on_progress(room.name, f"died ({status})")
            _log.warning("room_died", name=room.name, status=status, restarts=self._restarts[room.name])
            if status == _BAD_SETTINGS and room.name not in self._proven:
                raise Unavailable(f"{room.name} cannot start:\n{_tail(room.log_file)}")
            lived_s = time.monotonic() - began
            pause_s = 0.0 if lived_s > _STABLE_S else min(_MAX_PAUSE_S, max(0.25, pause_s * 2))
            self._restarts[room.name] += 1

    def _on_kept(self, task: asyncio.Task[None]) -> None:
        """Fail as a whole when a room is not kept running any more, whatever the reason (a full disk, no process left)."""
        error = None if task.cancelled() else task.exception()
        if error is None or self._failed is None or self._failed.done():
            return
        if not isinstance(error, BrainError):
            _log.error("room_not_kept", name=task.get_name(), exc_info=error)
            error = Unavailable(f"{task.get_name()} cannot be kept running: {error}")
        self._failed.set_exception(error)

    async def _launch(self, room: RoomPlan) -> asyncio.subprocess.Process:
        self._on_progress(room.name, "starting")
        with room.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *room.command,
                env=dict(room.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._processes[room.name] = process
        self._write_state(ready=all(event.is_set() for event in self._ready.values()))
        return process

    async def _watch_ready(self, room: RoomPlan) -> None:
        """Tell when the room can do its duty."""
        while not await _is_ready(room):  # noqa: ASYNC110  another process: there is no event to wait for
            await asyncio.sleep(_PROBE_PAUSE_S)
        self._ready[room.name].set()
        self._proven.add(room.name)
        self._on_progress(room.name, "ready")
        self._write_state(ready=all(event.is_set() for event in self._ready.values()))

    def _write_state(self, *, ready: bool) -> None:
        """Tell other programs on this machine where everything is."""
        state = {
            "base_url": self._plan.base_url,
            "ready": ready,
            "supervisor_pid": os.getpid(),
            "rooms": {
                room.name: {
                    "address": room.addresses.serving,
                    "metrics": room.addresses.metrics,
                    "pid": process.pid if (process := self._processes.get(room.name)) else None,
                    "restarts": self._restarts[room.name],
                    "log": str(room.log_file),
                }
                for room in self._plan.rooms
            },
        }
        target = self._plan.state_dir / "local.json"
        draft = target.with_suffix(".new")
        draft.write_text(json.dumps(state, indent=2))
        draft.replace(target)


async def _is_ready(room: RoomPlan) -> bool:
    if room.name == "gateway":
        return await _answers_http(room.addresses.serving, "/health/ready")
    try:
        tls = room.tls()
    except InvalidInput:
        # The room says so itself, and ends.
        return False
    channel = connect(room.addresses.serving, tls=tls)
    try:
        return await is_serving(channel)
    finally:
        await channel.close()


async def _answers_http(address: str, path: str) -> bool:
    """Return whether a GET of `path` gives 200."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _end(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    """Ask a room to end, and kill it with all its children when it does not."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), timeout_s)
    _kill_group(process)
    await process.wait()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
