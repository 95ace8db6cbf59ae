"""Training in a process of its own, spawned and never forked: CUDA cannot be used in a fork, and what is killed is free.

The child writes its messages on standard output, a line each, and its log on standard error. It ends with its parent.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Final

import structlog

from services.chassis.errors import BrainError, Internal, InvalidInput, TooLarge, Unavailable
from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import (
    DryRun,
    Failed,
    FailureCode,
    Finished,
    Message,
    Paused,
    decode,
)

__all__ = ["ProcessTrainer"]

_log = structlog.get_logger()

_MODULE: Final = "services.finetuning.trainer"
# How long a dry run takes steps; loading comes on top.
_DRY_RUN_S: Final = 10.0
# A trainer stands back for whoever answers callers on the same machine.
_NICE: Final = 5
# How long an ended child's group gets before it is killed.
_GRACE_S: Final = 5.0
_LOG_CHARS: Final = 4000
# A line of messages is short; one longer than this is none.
_MAX_LINE: Final = 1 << 20


class ProcessTrainer:
    """Trains in child processes.

    Args:
        environment: Variables that a child inherits; the libraries' own are added.
        python: Interpreter to start.
    """

    def __init__(self, *, environment: Mapping[str, str], python: str = sys.executable) -> None:
        self._python = python
        self._environment = dict(environment) | {
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    @contextlib.asynccontextmanager
    async def run(self, plan: TrainingPlan, *, resume_from: Path | None) -> AsyncIterator["_Child"]:
        """Begin to train; leaving the block kills what still runs."""
        arguments = [] if resume_from is None else ["--resume", str(resume_from)]
        async with self._started(plan, arguments) as child:
            yield child

    async def measure(self, plan: TrainingPlan) -> DryRun:
        """Take a few steps on a plan's rows, and estimate the whole."""
        async with self._started(plan, ["--dry-run", str(_DRY_RUN_S)]) as child:
            found = [message async for message in child.messages() if isinstance(message, DryRun)]
            if not found:
                await child.outcome()
                raise Internal("The dry run said nothing.", private=child.log())
            return found[0]

    @contextlib.asynccontextmanager
    async def _started(self, plan: TrainingPlan, arguments: list[str]) -> AsyncIterator["_Child"]:
        path = plan.work / "plan.json"
        path.write_text(plan.to_json(), encoding="utf-8")
        with tempfile.TemporaryFile(dir=plan.work) as log:
            process = await asyncio.create_subprocess_exec(
                *(self._python, "-m", _MODULE, str(path), "--parent", str(os.getpid()), "--nice", str(_NICE)),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # A group of its own, so that what libraries start ends with it.
                start_new_session=True,
                env=self._environment,
                limit=_MAX_LINE,
            )
            try:
                yield _Child(process, log)
            finally:
                await _end(process)


class _Child:
    """A trainer that runs."""

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self._last: Message | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what it says, until it ends."""
        stream = self._process.stdout
        assert stream is not None
        while line := await stream.readline():
            try:
                message = decode(line)
            except ValueError as error:
                raise Internal("The trainer said something that is no message.", private=repr(error)) from error
            self._last = message
            yield message

    async def outcome(self) -> Finished | Paused:
        """Return how it ended."""
        code = await self._process.wait()
        if isinstance(self._last, Finished | Paused):
            return self._last
        if isinstance(self._last, Failed):
            raise _refusal(self._last, self.log())
        raise Unavailable("The trainer ended unexpectedly.", private=f"exit {code}: {self.log()}", retry_after_s=1.0)

    def pause(self) -> None:
        """Have it stop at its next step."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def log(self) -> str:
        """Return the last of what it logged."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_CHARS))
        return self._log.read().decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a child and whatever it started; one that has ended is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _GRACE_S)


def _refusal(failed: Failed, log: str) -> BrainError:
    _log.warning("training_refused", code=failed.code.value)
    if failed.code is FailureCode.OUT_OF_MEMORY:
        return TooLarge(failed.message, param="batch_size", private=log)
    if failed.code.is_callers:
        return InvalidInput(failed.message, param=_PARAMS.get(failed.code), private=log)
    return Internal(failed.message, private=log)


_PARAMS: Final[Mapping[FailureCode, str]] = {
    FailureCode.INVALID_TRAINING_FILE: "training_file",
    FailureCode.INVALID_VALIDATION_FILE: "validation_file",
    FailureCode.INVALID_MODEL: "model",
    FailureCode.INVALID_SETTING: "hyperparameters",
    FailureCode.LOSS_NOT_FINITE: "learning_rate_multiplier",
    FailureCode.TOO_FEW_USABLE_PAIRS: "constitution",
}
