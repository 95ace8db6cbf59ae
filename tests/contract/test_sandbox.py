"""What a child process may not do, tried from inside one."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from services.ingestion.backends import seccomp
from services.ingestion.backends.sandbox import SandboxedReader
from services.ingestion.domain.text import Chunking


def open_socket() -> None:
    socket.socket().close()


def run_program() -> None:
    subprocess.run(["/bin/true"], check=True)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def write_file() -> None:
    Path("/tmp/written-by-a-child").write_text("x")


def remove_file() -> None:
    os.unlink("/tmp/no-such-file")  # noqa: PTH108  the call itself is denied


def signal_parent() -> None:
    os.kill(os.getppid(), 0)


def attempt(deed: Callable[[], None], sender: Connection) -> None:
    seccomp.deny()
    try:
        deed()
    except OSError as error:
        sender.send(error.errno)
    else:
        sender.send(0)


@pytest.mark.parametrize("deed", [open_socket, run_program, fork, write_file, remove_file, signal_parent])
def test_the_kernel_denies(deed: Callable[[], None]) -> None:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=attempt, args=(deed, sender))
    child.start()
    assert receiver.poll(60)
    assert receiver.recv() == 1, "EPERM"
    child.join()


async def test_leaving_ends_the_reading(tmp_path: Path) -> None:
    heavy = tmp_path / "heavy.csv"
    heavy.write_text("name,value\n" + "lamp,12345\n" * 600_000)
    light = tmp_path / "light.md"
    light.write_text("# Light")
    reader = SandboxedReader(concurrency=1)
    task = asyncio.create_task(reader.read(heavy, filename="heavy.csv", chunking=Chunking()))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The only place is free again at once.
    async with asyncio.timeout(60):
        assert (await reader.read(light, filename="light.md", chunking=Chunking())).title == "Light"
    await reader.close()
