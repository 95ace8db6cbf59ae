"""Trains in a process of its own, started as a clean program: CUDA cannot be used again in a fork, nor gRPC.

The child ends with this process, is ended with the task that waits for it, and says everything it has to say on its
standard output, one message a line.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import Internal, InvalidInput, Unavailable
from services.finetuning.domain.training import TrainingPlan, newest_checkpoint
from services.finetuning.domain.training_messages import (
    DryRun,
    Failed,
    FailureCode,
    Finished,
    Message,
    Paused,
    decode,
)
from services.finetuning.ports.training import OnMessage

__all__ = ["TrainerProcess"]

_log = structlog.get_logger()

_MODULE: Final = "services.finetuning.trainer"
# A message holds numbers and paths; one of this length is none.
_LINE_BYTES: Final = 1 << 20
# What is kept of the child's standard error, for the log.
_TAIL_BYTES: Final = 8192
# Which field of a request a failure is about.
_FIELDS: Final[Mapping[FailureCode, str]] = {
    FailureCode.INVALID_TRAINING_FILE: "training_file",
    FailureCode.INVALID_VALIDATION_FILE: "validation_file",
    FailureCode.INVALID_MODEL: "model",
    FailureCode.NO_DIFFERENT_ANSWERS: "training_file",
    FailureCode.TOO_FEW_USABLE_PAIRS: "judge_model",
}


class TrainerProcess:
    """Starts a process for each plan.

    Args:
        environment: The child's environment; what the training itself needs is put over it.
        threads: Threads of the arithmetic. More than free cores make it several times slower.
        nice: How much the child stands back for other processes, 0 to 19.
        grace_s: Seconds that a child which is to end has before it is killed.
        command: Program that the plan is given to; another one for tests.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        threads: int = 1,
        nice: int = 10,
        grace_s: float = 5.0,
        command: Sequence[str] = (sys.executable, "-m", _MODULE),
    ) -> None:
        self._environment = {
            **environment,
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            # Everything lies on this machine; nothing is fetched, and nobody is told.
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }
        self._nice = nice
        self._grace_s = grace_s
        self._command = tuple(command)

    async def train(
        self, plan: TrainingPlan, *, resume_from: Path | None, on_message: OnMessage, pause: asyncio.Event
    ) -> Finished | Paused:
        """Train, and return how it ended."""
        arguments = [] if resume_from is None else ["--resume", str(resume_from)]
        last = await self._run(plan, arguments, on_message, pause)
        if isinstance(last, Finished | Paused):
            return last
        raise Internal("The training ended without a result.", private=f"last message: {last!r}")

    async def measure(self, plan: TrainingPlan, *, budget_s: float) -> DryRun:
        """Take a few steps on the plan's own rows, write nothing, and return what they showed."""
        last = await self._run(plan, ["--dry-run", str(budget_s)], _unheard, asyncio.Event())
        if isinstance(last, DryRun):
            return last
        raise Internal("The measuring ended without a result.", private=f"last message: {last!r}")

    def newest_checkpoint(self, plan: TrainingPlan) -> Path | None:
        """Return the newest whole checkpoint in the plan's work folder; None when there is none."""
        return newest_checkpoint(plan.checkpoints.iterdir()) if plan.checkpoints.is_dir() else None

    async def _run(
        self, plan: TrainingPlan, arguments: Sequence[str], on_message: OnMessage, pause: asyncio.Event
    ) -> Message | None:
        with tempfile.TemporaryDirectory(prefix="training-plan-") as folder:
            path = Path(folder) / "plan.json"
            path.write_text(plan.to_json(), encoding="utf-8")
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(path),
                *("--nice", str(self._nice), "--parent", str(os.getpid())),
                *arguments,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=self._environment,
                limit=_LINE_BYTES,
                # A group of its own: what it starts ends with it.
                start_new_session=True,
            )
            tail = asyncio.create_task(_tail(process))
            asking = asyncio.create_task(_ask(process, pause))
            try:
                last = await self._listen(process, on_message)
                code = await process.wait()
            finally:
                asking.cancel()
                # Shielded: a child is never left behind, however often the waiting is cancelled.
                await asyncio.shield(asyncio.create_task(self._end(process)))
                said = await tail
            _check(code, last, said)
            return last

    async def _listen(self, process: Process, on_message: OnMessage) -> Message | None:
        """Hand on what the child says until it says no more; return the last of it."""
        assert process.stdout is not None
        last: Message | None = None
        while line := await process.stdout.readline():
            try:
                last = decode(line)
            except ValueError as error:
                raise Internal("The training process said what was not understood.", private=repr(error)) from error
            await on_message(last)
        return last

    async def _end(self, process: Process) -> None:
        """See to it that nothing of the child is left."""
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _ask(process: Process, pause: asyncio.Event) -> None:
    await pause.wait()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


async def _tail(process: Process) -> str:
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(_TAIL_BYTES):
        kept = (kept + piece)[-_TAIL_BYTES:]
    return kept.decode(errors="replace")


async def _unheard(message: Message) -> None:
    """Hear nothing: only the result counts."""


def _check(code: int, last: Message | None, said: str) -> None:
    """Raise what a child's end means, unless it ended well."""
    if isinstance(last, Failed):
        if last.code.is_callers:
            raise InvalidInput(last.message, param=_FIELDS.get(last.code), private=said)
        raise Internal(last.message, private=said)
    if isinstance(last, Finished | Paused | DryRun):
        # What it had to do is done, however it left.
        return
    if code < 0:
        name = signal.Signals(-code).name
        _log.warning("training_process_killed", signal=name)
        raise Unavailable(f"The training process was killed ({name}).", private=said)
    raise Internal("The training process ended before its work was done.", private=f"exit code {code}\n{said}")
