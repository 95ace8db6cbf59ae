"""The rooms' own word on whether they can do their duty (gRPC health)."""

import asyncio
from collections.abc import Mapping

import grpc

from services.chassis.rpc.client import is_serving

__all__ = ["HealthProbe"]


class HealthProbe:
    """Asks every room at once.

    Args:
        channels: To the rooms, by name.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels

    async def rooms(self) -> Mapping[str, bool]:
        """Return the answer of each room; one that does not answer within a second cannot."""
        answers = await asyncio.gather(*(is_serving(channel) for channel in self._channels.values()))
        return dict(zip(self._channels, answers, strict=True))
