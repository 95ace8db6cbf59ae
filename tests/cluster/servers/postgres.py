"""PostgreSQL, 15 or newer: a room's tables."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.servers.installing import debian_package, find_program
from tests.cluster.servers.process import ServerProcess, free_port

__all__ = ["PostgresServer", "install"]

# The superuser of the tests: it may make databases, schemas and roles.
USER = "brain"
# Certificate, key and authorities in the server's folder.
_TLS = ("server.crt", "server.key", "root.crt")


def install() -> Path:
    """Return the folder of the programs; install Debian's package where there is none."""
    if not _server():
        debian_package("postgresql")
    found = _server()
    assert found is not None, "The package brought no postgres."
    return found.parent


def _server() -> Path | None:
    # Debian keeps every version's programs in a folder that is not on the PATH; the newest first.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    return find_program("postgres", folders)


class PostgresServer(ServerProcess):
    """A PostgreSQL that keeps what it has committed.

    It refuses to run as root: there it runs as the user postgres, and its folder must be within that user's reach.

    Attributes:
        url: `postgresql://user@host:port`, without a database.

    Args:
        folder: Its own folder.
        tls: Its certificate, the key, and the authorities of callers, who must then speak TLS, show a certificate for their
            name and know the password; None for letting everybody in.
        password: The superuser's, where it is asked for.
    """

    # Do not wait for those who are connected.
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path, *, tls: tuple[Path, Path, Path] | None = None, password: str = "none") -> None:
        super().__init__("postgres", folder)
        self._tls = tls
        self._password = password
        self._port = free_port()
        self._data = folder / "data"
        self.user = "postgres" if os.geteuid() == 0 else None
        self.url = f"postgresql://{USER}@127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Make the folder of an empty server."""
        super().prepare()
        self._data.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self._data, self.user, self.user)
        word = self.folder / "password"
        word.write_text(self._password)
        # The plain byte order, which is that of SQLite.
        options = ["-D", str(self._data), "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        options.append(f"--pwfile={word}")
        account = ["setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups"] if self.user else []
        program: list[str | Path] = [*account, install() / "initdb", *options]
        made = subprocess.run(
            program,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"initdb ended with status {made.returncode}:\n{made.stdout}{made.stderr}")
        if self._tls:
            for file, name in zip(self._tls, _TLS, strict=True):
                copy = shutil.copy(file, self._data / name)
                Path(copy).chmod(0o600)
                if self.user:
                    shutil.chown(copy, self.user, self.user)
            (self._data / "pg_hba.conf").write_text(
                "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n"
            )

    def command(self) -> Sequence[str | Path]:
        """Return what starts it: on TCP alone, and with the disk flushed at every commit, as it comes."""
        settings = [
            "listen_addresses=127.0.0.1",
            # Its socket would lie in a folder of the system.
            "unix_socket_directories=",
            # Rooms, tests and their processes at once; the usual 100 are soon taken.
            "max_connections=200",
            # A wait between transactions that wait for each other ends after this (a second as it comes).
            "deadlock_timeout=200ms",
        ]
        if self._tls:
            files = zip(("ssl_cert_file", "ssl_key_file", "ssl_ca_file"), _TLS, strict=True)
            settings += ["ssl=on", *(f"{setting}={name}" for setting, name in files)]
        options = [part for setting in settings for part in ("-c", setting)]
        return [install() / "postgres", "-D", self._data, "-p", str(self._port), *options]

    def is_ready(self) -> bool:
        """Return whether it takes connections."""
        asked: list[str | Path] = [install() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port), "-t", "1"]
        return subprocess.run(asked, check=False).returncode == 0
