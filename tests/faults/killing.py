"""Kills rooms of a stack, and says how long each was away."""

import threading
import time
from dataclasses import dataclass, field

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.running_stack import RunningStack

__all__ = ["Killer", "Recovery", "says_serving", "serves"]

# Longer than any room of the scripted stack takes on any machine.
_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a room was away, from its death until it said again that it serves."""

    room: str
    seconds: float


@dataclass
class Killer:
    """Ends rooms as a crash does, one at a time of each."""

    stack: RunningStack
    recoveries: list[Recovery] = field(default_factory=list)
    _waiting: dict[str, threading.Thread] = field(default_factory=dict)

    def is_up(self, room: str) -> bool:
        """Return whether a room has come back from its last death."""
        return room not in self._waiting or not self._waiting[room].is_alive()

    def kill(self, room: str) -> None:
        """Kill a room that is up; its recovery is noted beside."""
        assert self.is_up(room)
        before, at = self.stack.pid(room), time.monotonic()
        self.stack.kill(room)

        def wait() -> None:
            while time.monotonic() - at < _PATIENCE_S:
                if self.stack.pid(room) != before and serves(self.stack, room):
                    self.recoveries.append(Recovery(room, time.monotonic() - at))
                    return
                time.sleep(0.1)

        self._waiting[room] = threading.Thread(target=wait)
        self._waiting[room].start()

    def finish(self, kills: int) -> None:
        """Wait until everybody is back; fail when somebody is not."""
        for thread in self._waiting.values():
            thread.join()
        assert len(self.recoveries) == kills, f"of {kills} came back: {self.recoveries}"


def serves(stack: RunningStack, room: str) -> bool:
    """Return whether a room says that it serves; of the gateway, which answers for all rooms, whether it answers."""
    if room == "gateway":
        try:
            return httpx.get(f"{stack.base_url}/health/live", timeout=3).is_success
        except httpx.TransportError:
            return False
    return says_serving(stack.address(room))


def says_serving(address: str) -> bool:
    """Return whether a room answers a new connection that it serves."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
