"""What the supervisor does with rooms that die, refuse to start, or do not end: here a room is a few lines of shell."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.chassis.errors import Unavailable
from services.local.plan import Addresses, RoomPlan, StackPlan, free_addresses
from services.local.supervisor import Supervisor

pytestmark = [pytest.mark.usefixtures("socket_enabled"), pytest.mark.timeout(60)]

# Answers as a gateway does that can do its duty.
READY = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def planned(folder: Path, script: str) -> StackPlan:
    """Return a stack of one room, the gateway, that runs `script`; `$ready` makes it ready."""
    addresses: Addresses = free_addresses(0)["gateway"]
    (folder / "ready.py").write_text(READY)
    ready = f"{sys.executable} {folder / 'ready.py'} {addresses.serving.rpartition(':')[2]}"
    room = RoomPlan(
        name="gateway",
        command=("/bin/sh", "-c", script),
        environment={"PATH": os.environ["PATH"], "folder": str(folder), "ready": ready},
        addresses=addresses,
        log_file=folder / "gateway.log",
    )
    return StackPlan(folder, (room,))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not true():
            await asyncio.sleep(0.02)


def runs(folder: Path) -> list[int]:
    """Return when the room was started, nanoseconds."""
    file = folder / "runs"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def restarts(folder: Path) -> int:
    return int(json.loads((folder / "local.json").read_text())["rooms"]["gateway"]["restarts"])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_room_that_keeps_dying_is_started_again_after_growing_pauses(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    plan = planned(tmp_path, 'date +%s%N >> "$folder/runs"; exit 3')
    supervisor = Supervisor(plan, on_progress=lambda room, state: told.append((room, state)))
    start = asyncio.create_task(supervisor.start(timeout_s=60))
    await until(lambda: len(runs(tmp_path)) == 4)
    assert restarts(tmp_path) == 3
    assert not json.loads((tmp_path / "local.json").read_text())["ready"]
    assert told[:2] == [("gateway", "starting"), ("gateway", "died (3)")]
    pauses = [later - earlier for earlier, later in zip(runs(tmp_path), runs(tmp_path)[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert not start.done()
    start.cancel()
    await supervisor.stop()
    assert not (tmp_path / "local.json").exists()


async def test_a_start_that_takes_too_long_says_which_room_and_what_it_said(tmp_path: Path) -> None:
    supervisor = Supervisor(planned(tmp_path, "echo 'the disk is full' >&2; exec sleep 60"))
    with pytest.raises(Unavailable, match="gateway") as caught:
        await supervisor.start(timeout_s=1)
    assert "the disk is full" in caught.value.message
    await supervisor.stop()


async def test_wrong_settings_end_the_start_at_once(tmp_path: Path) -> None:
    script = 'date +%s%N >> "$folder/runs"; echo "BRAIN_GATEWAY_LISTEN: wrong" >&2; exit 2'
    supervisor = Supervisor(planned(tmp_path, script))
    with pytest.raises(Unavailable, match="cannot start:\nBRAIN_GATEWAY_LISTEN: wrong"):
        await supervisor.start(timeout_s=60)
    assert len(runs(tmp_path)) == 1
    await supervisor.stop()


async def test_a_room_that_was_ready_is_always_started_again(tmp_path: Path) -> None:
    # Its settings are good, whatever the second run says of them.
    script = 'date +%s%N >> "$folder/runs"; [ $(wc -l < "$folder/runs") = 2 ] && exit 2; exec $ready'
    supervisor = Supervisor(planned(tmp_path, script))
    await supervisor.start(timeout_s=40)
    os.kill(json.loads((tmp_path / "local.json").read_text())["rooms"]["gateway"]["pid"], 9)
    await until(lambda: len(runs(tmp_path)) == 3 and json.loads((tmp_path / "local.json").read_text())["ready"])
    assert restarts(tmp_path) == 2
    await supervisor.stop()


async def test_what_a_room_started_dies_with_it(tmp_path: Path) -> None:
    script = 'sleep 600 & echo $! >> "$folder/children"; date +%s%N >> "$folder/runs"; exit 1'
    supervisor = Supervisor(planned(tmp_path, script))
    start = asyncio.create_task(supervisor.start(timeout_s=60))
    await until(lambda: len(runs(tmp_path)) >= 2)
    first = int((tmp_path / "children").read_text().split()[0])
    await until(lambda: not is_running(first))
    start.cancel()
    await supervisor.stop()


async def test_a_room_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; date +%s%N >> \"$folder/runs\"; while true; do sleep 0.1; done"
    supervisor = Supervisor(planned(tmp_path, script), stop_timeout_s=0.2)
    start = asyncio.create_task(supervisor.start(timeout_s=60))
    await until(lambda: len(runs(tmp_path)) == 1)
    pid = json.loads((tmp_path / "local.json").read_text())["rooms"]["gateway"]["pid"]
    start.cancel()
    await supervisor.stop()
    assert not is_running(pid)


async def test_a_room_that_cannot_be_watched_any_more_is_told(tmp_path: Path) -> None:
    plan = planned(tmp_path, 'date +%s%N >> "$folder/runs"; exit 1')
    (tmp_path / "local.new").mkdir()
    supervisor = Supervisor(plan)
    with pytest.raises(Unavailable, match=r"gateway cannot be kept running: .*local\.new"):
        await supervisor.start(timeout_s=40)
    await supervisor.stop()
