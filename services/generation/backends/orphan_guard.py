"""Makes sure that the engine's processes never outlive this one.

The engine runs in child processes that a SIGKILL of this process would leave behind, with their memory and their ports.
A shell of one megabyte reads from a pipe whose other end only this process holds: it is told which processes there are,
and kills them when the pipe ends. (They cannot be found by a mark in their environment: they rename themselves, which
overwrites it.)
"""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

__all__ = ["OrphanGuard"]

# Each line is the whole list; the last one counts.
_SCRIPT: Final = 'while read -r line; do pids=$line; done; [ -z "$pids" ] || kill -9 $pids'
_LOOK_EVERY_S: Final = 0.5


class OrphanGuard:
    """Holds the pipe. Start it before the engine's processes."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(  # noqa: S603  a fixed script
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A signal to the whole group must not take the guard first.
            start_new_session=True,
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tell of processes that begin within the block, and at its end of those that stay."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                self._tell()

        thread = threading.Thread(target=look, name="orphan-guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._tell()

    def processor_s(self) -> float:
        """Return the processor time that the processes have taken, in seconds; that of those which ended goes."""
        total = 0.0
        for process in self._guarded():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def close(self) -> None:
        """Clear away whatever is left of the engine's processes, and the guard itself."""
        self._tell()
        self._shell.communicate(timeout=10)

    def _tell(self) -> None:
        pids = (str(it.pid) for it in self._guarded())
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{' '.join(pids)}\n".encode())
        self._shell.stdin.flush()

    def _guarded(self) -> list[psutil.Process]:
        return [it for it in psutil.Process().children(recursive=True) if it.pid != self._shell.pid]
