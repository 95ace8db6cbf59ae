"""A server as a process: started, stopped, killed, frozen, and started again on the same ports and data."""

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["ServerProcess", "free_port", "is_open", "passable_folder"]

# Below the range that the system takes for outgoing connections (32768 and up on Linux): one of those could sit on a
# server's port while the server is down, and it could not come back.
_PORTS = range(20_000, 32_000)
# As often as a user would not notice.
_POLL_S = 0.05
# The slowest of them, a broker on a machine that does something else, takes about 20 s.
_START_TIMEOUT_S = 120.0
# Who does not go when asked is killed.
_STOP_TIMEOUT_S = 15.0
# Of a server's output, what an error shows.
_TAIL_BYTES = 3000

_given: set[int] = set()


class ServerProcess(ABC):
    """A server that listens on 127.0.0.1.

    It ends when the thread that started it ends: a test run that is killed leaves no server behind. Start it from a
    thread that lives on.

    Args:
        name: What reports call it.
        folder: Its own folder, for data and output; made when it is not there.
    """

    stop_signal = signal.SIGTERM
    # The account it runs under; None for our own.
    user: str | None = None

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return what starts it."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it answers; asked again and again while it starts."""

    def environment(self) -> dict[str, str]:
        """Return what it finds in its environment besides PATH and LANG."""
        return {}

    def prepare(self) -> None:
        """Make its folder, and in it what it needs; called before the first start only."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The process that runs.

        Raises:
            RuntimeError: None does.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run.")
        return self._process.pid

    def start(self) -> None:
        """Start it, the first time or again, and wait until it answers.

        Raises:
            RuntimeError: It ended, or did not answer in time; the end of its output is in the message.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already.")
        if not self._prepared:
            self.prepare()
            self._prepared = True
        account = ["--reuid", self.user, "--regid", self.user, "--init-groups"] if self.user else []
        # setpriv becomes the server: the process that is signalled is the server itself.
        ending = ["--pdeathsig", self.stop_signal.name.removeprefix("SIG")]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", *account, *ending, "--", *self.command()],
                env={name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the command, which stops the servers when the tests are done.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask it to end, and end it when it does not; nothing happens when it does not run."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it and its children at once, as a crash would; nothing happens when it does not run."""
        if self._process is None:
            return
        for process in self._family():
            _signalled(process, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop its clock: connections stay open and nobody answers."""
        for process in self._family():
            _signalled(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._family():
            _signalled(process, signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again on the same ports and data."""
        self.stop()
        self.start()

    def output(self) -> str:
        """Return the end of what it printed."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def _family(self) -> list[psutil.Process]:
        """Return the process and its children, the parent first: it must not start others for those that end."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _START_TIMEOUT_S
        while not self.is_ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self._process.returncode}:\n{self.output()}")
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not answer within {_START_TIMEOUT_S:.0f} s:\n{self.output()}")
            time.sleep(_POLL_S)


def _signalled(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        # It ended by itself in between.
        return


def free_port(*, together: int = 1) -> int:
    """Return a port of 127.0.0.1 that nobody listens on and that this process has not given away.

    Args:
        together: How many are needed that follow each other; the first is returned.
    """
    for first in random.sample(_PORTS, len(_PORTS)):
        ports = range(first, first + together)
        if _given.isdisjoint(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return first
    raise RuntimeError("No port is free.")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Return whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Yield a temporary folder that another user can get through: PostgreSQL's, where we are root."""
    with tempfile.TemporaryDirectory(prefix="brain-cluster-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
