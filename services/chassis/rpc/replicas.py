"""Calls to a room whose replicas are not alike: each remembers what it read last, so that what belongs together goes to one.

A call with an affinity goes to the replica that rendezvous hashing gives it (Thaler and Ravishankar, 1998), so that a replica
that comes or goes moves only its own share; one that has more than a quarter above the mean to do already is passed by
(consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam, 2018). Other calls go where least is going on. A call
that changes nothing is asked of the next replica when one does not take it.
"""

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import grpc
import structlog

from services.chassis.errors import Unavailable
from services.chassis.rpc.choosing import ChoosingChannel, Chosen, Way
from services.chassis.rpc.client import connect
from services.chassis.rpc.tls import Tls

__all__ = ["ReplicaChannel", "affinity", "connect_replicas", "each_replica", "look_up"]

_log = structlog.get_logger()

# How far above the mean a replica may be loaded before what belongs to it goes to the next.
_BOUND: Final = 1.25
# A replica that did not take a call is asked again after this time; until then others are, if there are any.
_AWAY_S: Final = 2.0
# How often the name is looked up: a new replica has its share within so long.
_LOOK_UP_S: Final = 5.0

_affinity: ContextVar[str] = ContextVar("affinity", default="")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@contextmanager
def affinity(key: str) -> Iterator[None]:
    """Send the calls of the block that share a `key` to one replica; an empty key has none."""
    token = _affinity.set(key)
    try:
        yield
    finally:
        _affinity.reset(token)


class _Replica(Way):
    """One replica: its channel and what is going on there."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.address = address
        self.away_until = 0.0

    def weight(self, key: str) -> bytes:
        """Return how much the key belongs here; the greatest wins."""
        return blake2b(f"{key}\0{self.address}".encode(), digest_size=8).digest()


class ReplicaChannel(ChoosingChannel):
    """A channel to all replicas of a room; it picks one for each call.

    Args:
        address: `host:port` of a name that leads to every replica (a headless service), or `ipv4:HOST:PORT,HOST:PORT…`.
        connect: Opens a channel to one replica, given its address and the name that its certificate is for.
        idempotent: Full names of the unary methods that are asked of another replica when one is not available.
        resolve: Looks a name up; returns addresses `host:port`.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        address: str,
        *,
        connect: Callable[[str, str], grpc.aio.Channel],
        idempotent: Sequence[str] = (),
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._idempotent = frozenset(f"/{name}" for name in idempotent)
        self._resolve = resolve or _resolved
        self._clock = clock
        self._name = "" if address.startswith("ipv4:") else address.removeprefix("dns:")
        # Until a name was looked up, grpc's own reading of it.
        first = [self._name] if self._name else address.removeprefix("ipv4:").split(",")
        self._replicas = {one: _Replica(one, self._connect(one, self._host)) for one in first}
        self._leaving: list[_Replica] = []
        self._looking: asyncio.Task[None] | None = None

    @property
    def replicas(self) -> list[grpc.aio.Channel]:
        """A channel to each replica that is known of."""
        return [replica.channel for replica in self._replicas.values()]

    @property
    def _host(self) -> str:
        return self._name.rpartition(":")[0]

    def pick(self) -> _Replica:
        """Return where the next call goes."""
        if self._name and self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        now = self._clock()
        known = list(self._replicas.values())
        there = [replica for replica in known if replica.away_until <= now] or known
        key = _affinity.get()
        if not key:
            return min(there, key=lambda replica: replica.running)
        most = math.ceil(_BOUND * (sum(replica.running for replica in there) + 1) / len(there))
        by_weight = sorted(there, key=lambda replica: replica.weight(key), reverse=True)
        # At least one is below the bound, which lies above the mean.
        return next(replica for replica in by_weight if replica.running < most)

    def ended(self, way: Way, call: Any) -> None:
        """Note whether the replica took the call."""
        assert isinstance(way, _Replica)
        asyncio.get_running_loop().create_task(self._look_at(way, call))

    def _is_away(self, replica: _Replica) -> None:
        """Pass a replica by for a while: it did not take a call."""
        replica.away_until = self._clock() + _AWAY_S

    async def _look_at(self, replica: _Replica, call: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            if await call.code() is grpc.StatusCode.UNAVAILABLE:
                self._is_away(replica)
            else:
                replica.away_until = 0.0

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return a callable that picks a replica, and where that is safe the next when one is not available."""
        chosen = super().unary_unary(method, *arguments, **named)
        return partial(self._in_turn, chosen) if method in self._idempotent else chosen

    async def _in_turn(self, chosen: Chosen, *arguments: Any, **named: Any) -> Any:
        """Call a method on one replica after the other, at most once on as many as there are, and return the answer.

        Raises:
            AioRpcError: One answered with an error, or none is available.
        """
        others = len(self._replicas) - 1
        while True:
            replica = self.pick()
            try:
                return await chosen.on(replica, *arguments, **named)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or others <= 0:
                    raise
                others -= 1
                self._is_away(replica)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels to all replicas."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for replica in (*self._replicas.values(), *self._leaving):
            await replica.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the best state of any replica's channel."""
        states = {replica.channel.get_state(try_to_connect) for replica in self._replicas.values()}
        return next((state for state in _BEST_FIRST if state in states), grpc.ChannelConnectivity.IDLE)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state of the replica that is known longest is another."""
        await self.replicas[0].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when the replica that is known longest can be reached."""
        await self.replicas[0].channel_ready()

    async def look_up(self) -> None:
        """Know the replicas of this moment.

        Raises:
            OSError: The name leads nowhere.
        """
        if self._name:
            host, _, port = self._name.rpartition(":")
            await self._meet(await self._resolve(host, int(port)))

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look_up()
            except OSError as error:
                _log.warning("replicas_not_found", name=self._name, reason=repr(error))
            await asyncio.sleep(_LOOK_UP_S)

    async def _meet(self, found: Sequence[str]) -> None:
        """Know these replicas and no others; what runs on one that went goes on."""
        for address in found:
            if address not in self._replicas:
                self._replicas[address] = _Replica(address, self._connect(address, self._host))
        for address in [address for address in self._replicas if address not in found]:
            self._leaving.append(self._replicas.pop(address))
        idle = [replica for replica in self._leaving if not replica.running]
        self._leaving = [replica for replica in self._leaving if replica.running]
        for replica in idle:
            await replica.channel.close()


def connect_replicas(address: str, *, idempotent: Sequence[str] = (), tls: Tls | None = None) -> ReplicaChannel:
    """Return a channel to all replicas of a room.

    Args:
        address: `host:port` of a name that leads to every replica, or `ipv4:HOST:PORT,HOST:PORT…`.
        idempotent: Full names of the methods that may be retried: on the same replica, and unary ones then on the others.
        tls: Certificates; None for plain text.
    """

    def one(replica: str, name: str) -> grpc.aio.Channel:
        # Which address it is known by does not change what a replica is called.
        is_named = replica.rpartition(":")[0] == name
        return connect(replica, idempotent=idempotent, tls=tls, server_name="" if is_named else name)

    return ReplicaChannel(address, connect=one, idempotent=idempotent)


async def look_up(channel: grpc.aio.Channel) -> None:
    """Know the replicas of this moment that `channel` leads to, before something is said to each of them.

    Raises:
        Unavailable: The name leads nowhere.
    """
    if isinstance(channel, ReplicaChannel):
        try:
            await channel.look_up()
        except OSError as error:
            raise Unavailable("The replicas cannot be found.", private=repr(error), retry_after_s=1.0) from error


def each_replica(channel: grpc.aio.Channel) -> Sequence[grpc.aio.Channel]:
    """Return a channel to each replica that `channel` leads to, for what every one of them must hear."""
    return channel.replicas if isinstance(channel, ReplicaChannel) else [channel]


_BEST_FIRST: Final = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


async def _resolved(host: str, port: int) -> Sequence[str]:
    """Return every IPv4 and IPv6 address of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return sorted(
        f"[{address[0]}]:{port}" if family is socket.AF_INET6 else f"{address[0]}:{port}"
        for family, _, _, _, address in found
    )
