"""Where the servers' files are kept, and how those that are missing are brought."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["debian_package", "find_program", "go_program", "run", "servers_folder"]


def servers_folder() -> Path:
    """Return the folder that keeps servers that are built or brought once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corporate-brain" / "servers"


def run(command: Sequence[str | Path], **environment: str) -> None:
    """Run a command with additions to the environment.

    Raises:
        SystemExit: It is not there, or it failed; the message carries its output.
    """
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is needed and was not found; install it and try again.") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stdout[-3000:]}")


def find_program(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the program of that name in one of the folders or on the PATH."""
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]))
    return Path(found) if found else None


def debian_package(package: str) -> None:
    """Install a Debian package without what it only recommends.

    Raises:
        SystemExit: There are no rights or no such package; the message says what to install.
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"{package} is needed: install it (on Debian: apt-get install {package}) and try again.")
    settings = {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    try:
        run(command, **settings)
    except SystemExit:
        # A fresh machine has no list of packages yet, an old one has yesterday's.
        run(["apt-get", "update", "-q"], **settings)
        run(command, **settings)


def go_program(module: str, version: str) -> Path:
    """Return the program that a Go module builds; build it once, into the cache folder.

    Args:
        module: Path of the module's command; its last part names the program.
        version: Without the `v`.
    """
    name = module.rsplit("/", 1)[1]
    folder = servers_folder() / f"{name.removesuffix('-server')}-{version}"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Go writes the program elsewhere and moves it here: what is there is whole. Builds wait for everybody else.
        command = ["nice", "-n", "19", "go", "install", "-trimpath", "-ldflags=-s -w", f"{module}@v{version}"]
        run(command, GOBIN=str(folder))
    return folder / name
