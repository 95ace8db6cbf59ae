"""Makes sure that the engine's processes never outlive this one.

The engine runs in child processes that a SIGKILL of this process would leave behind, with their memory and their ports.
A shell of one megabyte waits for the end of a pipe whose other end only this process holds, then kills every process
that carries this process's mark in its environment.
"""

import subprocess
import uuid
from typing import Final

__all__ = ["MARK", "OrphanGuard"]

# The name of the environment variable that children inherit.
MARK: Final = "BRAIN_ENGINE_OWNER"
_SCRIPT: Final = """
read -r _
for folder in /proc/[0-9]*; do
  if grep -qzx "$1" "$folder/environ" 2>/dev/null; then kill -9 "${folder#/proc/}" 2>/dev/null; fi
done
"""


class OrphanGuard:
    """Holds the pipe. Start it before the children, which must get `MARK=value` in their environment."""

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self._shell = subprocess.Popen(  # noqa: S603  a fixed script and a value of our own
            ["/bin/sh", "-c", _SCRIPT, "orphan-guard", f"{MARK}={self.value}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A signal to the whole group must not take the guard first. Its own environment carries no mark.
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin"},
        )

    def close(self) -> None:
        """Clear away whatever is left of the children, and the guard itself."""
        self._shell.communicate(timeout=10)
