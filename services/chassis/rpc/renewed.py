"""A channel whose new connections use the certificates of the moment: gRPC's own keep those they began with."""

import asyncio
from collections.abc import Callable

import grpc

from services.chassis.certificates import CertificateFiles
from services.chassis.rpc.choosing import ChoosingChannel, Way
from services.chassis.rpc.tls import channel_credentials

__all__ = ["RenewedChannel"]


class RenewedChannel(ChoosingChannel):
    """Calls go over a channel of the certificates of the moment; what runs on the one before ends there.

    Args:
        files: Whom to trust and what to show.
        connect: Opens a channel with credentials.
    """

    def __init__(
        self, files: CertificateFiles, *, connect: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]
    ) -> None:
        self._files = files
        self._connect = connect
        self._pems = files.current()
        self._way = Way(connect(channel_credentials(self._pems)))
        self._leaving: list[Way] = []
        self._closing: set[asyncio.Task[None]] = set()

    def pick(self) -> Way:
        """Return the channel of the moment."""
        pems = self._files.current()
        if pems is not self._pems:
            self._pems = pems
            self._leaving.append(self._way)
            self._way = Way(self._connect(channel_credentials(pems)))
        if self._leaving:
            self._let_go()
        return self._way

    def _let_go(self) -> None:
        """Close the channels of earlier certificates on which nothing runs any more."""
        idle = [way for way in self._leaving if not way.running]
        self._leaving = [way for way in self._leaving if way.running]
        for way in idle:
            task = asyncio.get_running_loop().create_task(way.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for way in (self._way, *self._leaving):
            await way.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel of the moment."""
        return self.pick().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state of the channel of the moment is another."""
        await self._way.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when the room can be reached."""
        await self.pick().channel.channel_ready()
