"""Health: whether the process lives, and whether the gateway can do its duty."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Route, Services
from gateway.ports import Probe

__all__ = ["routes"]

# Anybody may ask: however often they do, the rooms are asked once a second.
_TRUST_S: Final = 1.0


class Health:
    """Answers probes."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._rooms: Mapping[str, bool] = {}

    async def live(self, call: Call) -> Reply:
        """Say that the process answers."""
        return json_reply({"status": "ok"})

    async def ready(self, call: Call) -> Reply:
        """Say whether every room can do its duty; administrators are told which."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _TRUST_S:
                self._rooms = await self._probe.rooms()
                self._asked_at = time.monotonic()
        is_ready = all(self._rooms.values())
        answer: dict[str, object] = {"status": "ready" if is_ready else "not ready"}
        if call.is_administrator:
            answer["rooms"] = {room: "ready" if up else "not ready" for room, up in self._rooms.items()}
        return json_reply(answer, 200 if is_ready else 503)


def routes(services: Services) -> list[Route]:
    """Return the health routes; they are open."""
    health = Health(services.probe)
    return [
        Route("GET", "/health/live", health.live, "Whether the process answers", is_open=True),
        Route("GET", "/health/ready", health.ready, "Whether every room can do its duty", is_open=True),
    ]
