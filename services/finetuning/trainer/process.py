"""What makes this a well-behaved child: a stream of its own, an end with its parent, and a polite stop."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, TextIO

from services.finetuning.domain.training_messages import Message, encode

__all__ = ["EXIT_PAUSED", "PauseWish", "Send", "end_with_parent", "own_stdout", "sender"]

# EX_TEMPFAIL of sysexits.h: ask again later.
EXIT_PAUSED: Final = 75
_PDEATHSIG: Final = 1

Send = Callable[[Message], None]


def own_stdout() -> TextIO:
    """Take standard output for the messages alone: whatever libraries print from now on goes to standard error."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def sender(stream: TextIO) -> Send:
    """Return what writes a message to the stream, a line at once."""

    def send(message: Message) -> None:
        stream.write(encode(message) + "\n")
        stream.flush()

    return send


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when the one that started it ends; end now when it has already.

    Args:
        parent: Id of the process that started this one; 0 stays whatever happens.
    """
    if not parent:
        return
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


class PauseWish:
    """Whether somebody wants training to stop at its next step; SIGTERM says so."""

    def __init__(self) -> None:
        self.told = False

    def listen(self) -> None:
        """Take SIGTERM for the wish."""
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self.told = True
