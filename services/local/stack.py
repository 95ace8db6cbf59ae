"""The stack as a command runs it: keys, first API key, start, wait for a signal, stop."""

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from services.chassis.auth import generate_key_pair
from services.chassis.errors import BrainError, Conflict, InvalidInput
from services.chassis.logging import start_logging
from services.local.plan import KeyPair, RoomPlan, StackPlan, free_addresses, plan_stack
from services.local.supervisor import Supervisor

__all__ = ["create_key", "create_key_now", "only_one", "prepare", "run_stack", "write_secret"]


async def run_stack(*, state_dir: Path, http_port: int, environment: Mapping[str, str], timeout_s: float) -> int:
    """Run every room until SIGTERM or SIGINT; return the exit status."""
    start_logging("local", level="warning", form="console")
    console = Console(stderr=True)
    try:
        with only_one(state_dir):
            plan = plan_stack(state_dir=state_dir, addresses=free_addresses(http_port), inherited=environment)
            prepare(plan)
            return await _supervise(plan, console, timeout_s)
    except BrainError as error:
        console.print(f"[red]{error.message}")
        return 1


def prepare(plan: StackPlan) -> None:
    """Make the keys and secrets that the rooms need, once; empty the scratch folder."""
    shutil.rmtree(plan.scratch, ignore_errors=True)
    plan.scratch.mkdir(parents=True)
    plan.private_key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for room in plan.rooms:
        (plan.state_dir / room.name).mkdir(parents=True, exist_ok=True)
        room.log_file.parent.mkdir(parents=True, exist_ok=True)
    for pair in (KeyPair(plan.private_key_file, plan.public_key_file), *plan.worker_keys.values()):
        if not pair.private.exists():
            private, public = generate_key_pair()
            pair.public.write_bytes(public)
            write_secret(pair.private, private)
    # What API keys are hashed with, and what the secrets of webhooks are made of.
    for name in ("api-keys", "webhooks"):
        secret_file = plan.state_dir / "keys" / f"{name}.secret"
        if not secret_file.exists():
            write_secret(secret_file, secrets.token_hex(32).encode())


async def _supervise(plan: StackPlan, console: Console, timeout_s: float) -> int:
    def progress(room: str, state: str) -> None:
        console.print(f"  {room:<11} {state}", highlight=False)

    supervisor = Supervisor(plan, on_progress=progress)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.create_task(_started(plan, supervisor, console, timeout_s))
    waiting = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await starting
            failing = asyncio.create_task(supervisor.wait_failed())
            await asyncio.wait({failing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                await failing
            failing.cancel()
    finally:
        starting.cancel()
        waiting.cancel()
        await supervisor.stop()
        # What rooms that were killed left behind.
        shutil.rmtree(plan.scratch, ignore_errors=True)
    return 0


async def _started(plan: StackPlan, supervisor: Supervisor, console: Console, timeout_s: float) -> None:
    await supervisor.start(timeout_s=timeout_s)
    key = await first_key(plan)
    console.print(_WELCOME.format(base_url=plan.base_url, key=key), highlight=False, markup=False, soft_wrap=True)


async def first_key(plan: StackPlan) -> str:
    """Return the administrator key of this machine, made by the gateway's own command the first time.

    Raises:
        Conflict: The command failed.
    """
    key_file = plan.state_dir / "keys" / "administrator.key"
    if key_file.exists():
        return key_file.read_text().strip()
    gateway = plan.room("gateway")
    key = await create_key(gateway, "--tenant", "main", "--subject", "admin", "--role", "administrator")
    write_secret(key_file, key.encode())
    return key


async def create_key(gateway: RoomPlan, *arguments: str) -> str:
    """Run `python -m gateway create-key …` and return the key that it prints.

    Raises:
        Conflict: The command failed.
    """
    process = await asyncio.create_subprocess_exec(
        *gateway.command,
        "create-key",
        *arguments,
        env=dict(gateway.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise Conflict(f"No administrator key could be made: {errors.decode(errors='replace').strip()}")
    return output.decode().strip().splitlines()[-1]


def create_key_now(gateway: RoomPlan, *arguments: str) -> str:
    """Do what `create_key` does where no event loop runs."""
    return asyncio.run(create_key(gateway, *arguments))


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only this user can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder, so that no second stack writes into it.

    Raises:
        Conflict: Another stack holds it.
        InvalidInput: It cannot be written to.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        held = (state_dir / "lock").open("w")
    except OSError as error:
        raise InvalidInput(
            f"state-dir: {str(state_dir)!r} cannot be written to ({error.strerror}); choose another folder.",
            param="state-dir",
        ) from error
    with held as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"Another stack is running on {state_dir}; its addresses are in local.json there."
            ) from error
        yield


_WELCOME = """
Corporate Brain is ready.

  address   {base_url}
  API key   {key}

Ask it with curl:

  curl {base_url}/v1/chat/completions -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "default", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

or with the openai SDK:

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}/v1", api_key="{key}")
  answer = client.chat.completions.create(
      model="default", messages=[{{"role": "user", "content": "Say hello."}}])
  print(answer.choices[0].message.content)

Stop with Ctrl-C.
"""
