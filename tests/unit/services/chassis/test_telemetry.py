"""A collector that is lost costs nothing: not a request, and not the end of a process."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.usefixtures("socket_enabled")

# Ends more spans than the queue holds, and then itself.
PROGRAM = """
import sys
from services.chassis.settings import RoomSettings
from services.chassis.telemetry import start_telemetry, tracer

start_telemetry("kitchen", RoomSettings(otlp_endpoint=sys.argv[1]))
for number in range(5_000):
    with tracer("kitchen").start_as_current_span("work"):
        pass
print("worked", flush=True)
"""


@pytest.fixture(params=["takes and never answers", "refuses"])
def lost_collector(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param != "refuses":
            listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_lost_collector_holds_up_nothing(lost_collector: str) -> None:
    # The exporter alone would try for 30 s: longer than a supervisor waits before it kills.
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, lost_collector], capture_output=True, text=True, check=True, timeout=20
    )
    assert ended.stdout == "worked\n"
