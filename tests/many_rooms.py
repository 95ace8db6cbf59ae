"""Rooms started by hand, several processes of each, as a cluster has them."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.local.plan import Addresses, StackPlan, free_addresses, plan_stack
from services.local.stack import create_key_now, prepare
from tests.cluster_stack import back_ends

__all__ = ["Fleet", "running_fleet"]

_READY = b'"room_ready"'


@dataclass
class Fleet:
    """Processes of rooms, by name: `retrieval serve 1` is the second process of retrieval that serves."""

    plan: StackPlan
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, room: str, number: int, address: str, *, role: str = "", settings: Mapping[str, str]) -> None:
        """Start one process of a room; it is not ready yet."""
        name = " ".join(part for part in (room, role, str(number)) if part)
        folder = self.plan.state_dir / name.replace(" ", "-")
        folder.mkdir(parents=True)
        planned = self.plan.room(room)
        own = {
            f"BRAIN_{room.upper()}_LISTEN": address,
            f"BRAIN_{room.upper()}_METRICS_LISTEN": "",
            f"BRAIN_{room.upper()}_STATE_DIR": str(folder),
        }
        with (folder / "output.log").open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [*planned.command, *([role] if role else [])],
                env=dict(planned.environment) | own | dict(settings),
                stdout=output,
                stderr=output,
                cwd=Path(__file__).resolve().parents[1],
            )

    def wait_ready(self, *, timeout_s: float = 240) -> None:
        """Wait until every process has said that it is ready."""
        until = time.monotonic() + timeout_s
        for name, process in self.processes.items():
            log = self.plan.state_dir / name.replace(" ", "-") / "output.log"
            while _READY not in log.read_bytes():
                ended = process.poll() is not None
                assert not ended, f"{name} ended:\n{log.read_text(errors='replace')[-3000:]}"
                assert time.monotonic() < until, f"{name} is not ready:\n{log.read_text(errors='replace')[-3000:]}"
                time.sleep(0.1)

    def kill(self, name: str) -> None:
        """End a process as a crash does, for good."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, name: str, *, timeout_s: float = 60) -> float:
        """Ask a process to end as an operator does, wait until it has, and return how long that took, in seconds."""
        began = time.monotonic()
        self.processes[name].terminate()
        assert self.processes[name].wait(timeout_s) == 0, f"{name} ended with a fault"
        return time.monotonic() - began

    def key(self, subject: str, *, role: str) -> str:
        """Return a fresh API key."""
        return create_key_now(self.plan.room("gateway"), "--tenant", "main", "--subject", subject, "--role", role)


@contextmanager
def running_fleet(state_dir: Path, *, environment: Mapping[str, str]) -> Iterator[Fleet]:
    """Yield a fleet without processes on back ends of its own; what was started is ended afterwards."""
    with back_ends(state_dir / "secrets") as chosen:
        inherited = os.environ | chosen | dict(environment)
        plan = plan_stack(state_dir=state_dir, addresses=free_addresses(0), inherited=inherited)
        prepare(plan)
        fleet = Fleet(plan)
        try:
            yield fleet
        finally:
            for process in fleet.processes.values():
                process.terminate()
            for process in fleet.processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()


def several(addresses: Sequence[Addresses]) -> str:
    """Return the address that leads to all of several processes."""
    return f"ipv4:{','.join(one.serving for one in addresses)}"
