"""Redis: what Celery's messages wait in, and where limits are counted."""

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.servers.installing import debian_package, find_program
from tests.cluster.servers.process import ServerProcess, free_port

__all__ = ["RedisServer", "install"]


def install() -> Path:
    """Return the program; install Debian's package where there is none."""
    if not find_program("redis-server"):
        debian_package("redis-server")
    found = find_program("redis-server")
    assert found is not None, "The package brought no redis-server."
    return found


class RedisServer(ServerProcess):
    """A Redis that keeps what it was told, also when it is killed.

    Attributes:
        url: `redis://host:port`.
        tls_url: `rediss://host:port`, where it was told to listen on `{tls_port}`.

    Args:
        folder: Its own folder.
        arguments: What it is told besides; `{tls_port}` becomes a port.
    """

    def __init__(self, folder: Path, *, arguments: Sequence[str] = ()) -> None:
        super().__init__("redis", folder)
        self._port, tls_port = free_port(), free_port()
        self._arguments = [argument.replace("{tls_port}", str(tls_port)) for argument in arguments]
        self.url = f"redis://127.0.0.1:{self._port}"
        self.tls_url = f"rediss://127.0.0.1:{tls_port}"

    def command(self) -> Sequence[str | Path]:
        """Return what starts it: every write is on the disk before it is answered."""
        listening = ["--bind", "127.0.0.1", "--port", str(self._port)]
        keeping: list[str | Path] = [
            "--dir",
            self.folder,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]
        return [install(), *listening, *keeping, *self._arguments]

    def is_ready(self) -> bool:
        """Return whether it answers PING; while it reads its file it says LOADING."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as client:
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
