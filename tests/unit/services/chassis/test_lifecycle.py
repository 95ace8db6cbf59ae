import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from services.chassis.errors import BrainError, InvalidInput, Unavailable, Unsupported
from services.chassis.lifecycle import Lifecycle, run


def noting(notes: list[str], what: str) -> Callable[[], Awaitable[None]]:
    async def stop() -> None:
        notes.append(what)

    return stop


async def test_what_was_started_last_is_stopped_first_and_a_failing_stop_holds_up_nothing() -> None:
    life, notes = Lifecycle("kitchen"), list[str]()

    async def broken() -> None:
        raise RuntimeError("it jams")

    life.on_stop(noting(notes, "database"))
    life.on_stop(broken, name="broken")
    life.on_stop(noting(notes, "server"))
    life.end()
    await life.run_until_signal()
    assert notes == ["server", "database"]


async def crashes() -> None:
    raise RuntimeError("it burns")


async def ends() -> None:
    """A task that should run for ever."""


@pytest.mark.parametrize("work", [crashes, ends])
async def test_a_task_that_crashes_or_ends_takes_the_process_down_in_order(
    work: Callable[[], Awaitable[None]],
) -> None:
    life, notes = Lifecycle("kitchen"), list[str]()
    life.on_stop(noting(notes, "database"))
    life.spawn(work(), name="stove")  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as exit_:
        async with asyncio.timeout(20):
            await life.run_until_signal()
    assert exit_.value.code == 1
    assert notes == ["database"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("oven: 'x' is not one of a, b."), 2),
        (Unsupported("oven: gas is not offered."), 2),
        (Unavailable("No fire."), 1),
    ],
)
def test_what_cannot_start_ends_with_a_status_that_tells_whether_to_try_again(error: BrainError, status: int) -> None:
    async def start() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        run(start())
    assert exit_.value.code == status


def test_what_cannot_start_says_why_in_one_line() -> None:
    program = """
from services.chassis.errors import InvalidInput
from services.chassis.lifecycle import run
from services.chassis.logging import start_logging

async def start():
    raise InvalidInput("oven: 'x' is not one of a, b.")

start_logging("kitchen", level="info", form="json")
run(start())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "oven: 'x' is not one of a, b." in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
