"""The rooms' own word on whether they can do their duty (gRPC health)."""

import asyncio
from collections.abc import Mapping

import grpc
import structlog

from services.chassis.rpc.client import why_not_serving

__all__ = ["HealthProbe"]

_log = structlog.get_logger()


class HealthProbe:
    """Asks every room at once.

    Args:
        channels: To the rooms, by name.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels
        self._reasons: Mapping[str, str] = dict.fromkeys(channels, "")

    async def rooms(self) -> Mapping[str, bool]:
        """Return the answer of each room; one that does not answer within a second cannot.

        Why it cannot is logged when it changes.
        """
        answers = await asyncio.gather(*(why_not_serving(channel) for channel in self._channels.values()))
        reasons = dict(zip(self._channels, answers, strict=True))
        for room, reason in reasons.items():
            if reason and reason != self._reasons[room]:
                _log.warning("room_not_ready", name=room, reason=reason)
        self._reasons = reasons
        return {room: not reason for room, reason in reasons.items()}
