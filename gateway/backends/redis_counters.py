"""Counters that all gateways share, in Redis: each step is one script, so that no two gateways count past each other.

What runs is leased: a gateway that is killed counts for some seconds more, not for ever. While Redis is away each gateway
counts for itself, says so in its log and its metrics, and goes on serving.
"""

import asyncio
import ssl
import time
import uuid
from functools import partial
from typing import Any, Final, cast

import structlog
from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.exceptions import RedisError

from gateway.backends.memory_counters import MemoryCounters
from gateway.ports import Drawn
from services.chassis.redis_access import RedisAccess

__all__ = ["RedisCounters"]

_log = structlog.get_logger()

# Of one name there is a bucket and what runs, which are two things to Redis.
_BUCKET: Final = "brain:limits:rate:"
_RUNNING: Final = "brain:limits:running:"
# Longer than any answer of a Redis that is well; a request waits no longer to be counted.
_REACH_S: Final = 1.0
# Enough for every request of one gateway, each a fraction of a millisecond; a burst waits instead of opening hundreds.
_CONNECTIONS: Final = 16
# After a fault Redis is asked again no sooner: while it is away, requests do not wait for it one by one.
_AWAY_S: Final = 1.0
# A gateway that died counts as running for so long; the others renew theirs three times meanwhile.
_LEASE_S: Final = 15.0

# A bucket is a hash {level, at}. Time is the server's: gateways' clocks differ.
_DRAW: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local limit = tonumber(ARGV[1])
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = tonumber(held[1]) or limit
local at = tonumber(held[2]) or now
level = math.min(limit, level + math.max(0, now - at) * limit / 60)
local allowed = 0
if level >= 1 then
  level = level - 1
  allowed = 1
end
redis.call('HSET', KEYS[1], 'level', string.format('%.9f', level), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 61)
return {allowed, string.format('%.9f', level)}
"""
# What runs is a sorted set of entries by the end of their lease.
_ENTER: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
redis.call('EXPIRE', KEYS[1], math.ceil(2 * tonumber(ARGV[3])))
return 1
"""
# An entry whose lease has ended meanwhile is counted again: it runs.
_RENEW: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
for at = 2, #ARGV do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[at])
end
redis.call('EXPIRE', KEYS[1], math.ceil(2 * tonumber(ARGV[1])))
"""


class _Secured(SSLConnection):
    """A connection with a context of ours, where the library would make one of its own and keep it."""

    def __init__(self, context: ssl.SSLContext, **about: Any) -> None:
        super().__init__(**about)
        self.ssl_context.context = context


class RedisCounters:
    """Back end of the counters.

    Args:
        access: Where Redis is.
        alone: Counts what this gateway counted for itself.
    """

    def __init__(self, access: RedisAccess, *, alone: Counter) -> None:
        pool = BlockingConnectionPool.from_url(
            access.url,
            max_connections=_CONNECTIONS,
            timeout=_REACH_S,
            socket_timeout=_REACH_S,
            socket_connect_timeout=_REACH_S,
        )
        if access.context is not None:
            pool.connection_class = partial(_Secured, access.context)  # type: ignore[assignment]
        self._redis = Redis.from_pool(pool)
        self._draw = self._redis.register_script(_DRAW)
        self._enter = self._redis.register_script(_ENTER)
        self._renew = self._redis.register_script(_RENEW)
        self._alone = alone
        self._own = MemoryCounters()
        self._away_until = 0.0
        self._held: dict[str, set[str]] = {}
        self._own_entries: set[str] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def draw(self, name: str, per_minute: int) -> Drawn:
        """Take a token."""
        found = await self._asked(self._draw, _BUCKET + name, [per_minute])
        if found is None:
            return await self._own.draw(name, per_minute)
        allowed, left = cast("tuple[int, bytes]", found)
        return Drawn(bool(allowed), float(left))

    async def enter(self, name: str, most: int) -> str | None:
        """Count one more."""
        entry = uuid.uuid4().hex
        entered = await self._asked(self._enter, _RUNNING + name, [most, entry, _LEASE_S])
        if entered is None:
            own = await self._own.enter(name, most)
            if own is not None:
                self._own_entries.add(own)
            return own
        if not entered:
            return None
        self._held.setdefault(name, set()).add(entry)
        return entry

    def leave(self, name: str, entry: str) -> None:
        """Count one less: soon, in the background; a lease that could not be given back ends by itself."""
        if entry in self._own_entries:
            self._own_entries.discard(entry)
            self._own.leave(name, entry)
            return
        entries = self._held.get(name, set())
        entries.discard(entry)
        if not entries:
            self._held.pop(name, None)
        task = asyncio.create_task(self._give_back(name, entry))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def run(self) -> None:
        """Renew the leases of what runs, until cancelled."""
        while True:
            await asyncio.sleep(_LEASE_S / 3)
            for name, entries in list(self._held.items()):
                await self._asked(self._renew, _RUNNING + name, [_LEASE_S, *entries])

    async def close(self) -> None:
        """Give back what is being left, and let go of Redis."""
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._redis.aclose()

    async def _give_back(self, name: str, entry: str) -> None:
        try:
            await self._redis.zrem(_RUNNING + name, entry)
        except (RedisError, OSError) as error:
            self._say_away(error)

    async def _asked(self, script: Any, key: str, arguments: list[Any]) -> Any:
        """Return what the script says; None while Redis is away."""
        if time.monotonic() < self._away_until:
            self._alone.inc()
            return None
        try:
            found = await script(keys=[key], args=arguments)
        except (RedisError, OSError) as error:
            self._say_away(error)
            self._alone.inc()
            return None
        return 0 if found is None else found

    def _say_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _AWAY_S
        _log.warning("limits_not_shared", reason=repr(error))
