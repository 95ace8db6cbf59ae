"""An S3 store on this machine: versitygw, which keeps objects as files."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.servers.installing import go_program
from tests.cluster.servers.process import ServerProcess, free_port, is_open

__all__ = ["S3Server", "install"]

VERSION = "1.8.0"


def install() -> Path:
    """Return the program; build it once."""
    return go_program("github.com/versity/versitygw/cmd/versitygw", VERSION)


class S3Server(ServerProcess):
    """An S3 store with one bucket.

    Attributes:
        url: Endpoint, `http://host:port`.
        access_key: Access key of the one account.
        secret_key: Its secret, of this start only.
        bucket: A bucket that is there.

    Args:
        folder: Its own folder.
        tls: Its certificate and the key; None for plain text.
    """

    bucket = "brain"

    def __init__(self, folder: Path, *, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__("s3", folder)
        self._secured: list[str | Path] = ["--cert", tls[0], "--key", tls[1]] if tls else []
        self._port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._port}"
        self.access_key = "brain"
        self.secret_key = secrets.token_urlsafe(24)

    def prepare(self) -> None:
        """Make the bucket, which is a folder."""
        super().prepare()
        (self.folder / "objects" / self.bucket).mkdir(parents=True)
        (self.folder / "attributes").mkdir()

    def environment(self) -> dict[str, str]:
        """Return the account's keys, which a list of processes would show as arguments."""
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}

    def command(self) -> Sequence[str | Path]:
        """Return what starts it; attributes of objects are kept as files, which every file system has."""
        keeping: list[str | Path] = ["posix", "--sidecar", self.folder / "attributes", self.folder / "objects"]
        return [install(), "--port", f"127.0.0.1:{self._port}", "--quiet", *self._secured, *keeping]

    def is_ready(self) -> bool:
        """Return whether it listens."""
        return is_open(self._port)
