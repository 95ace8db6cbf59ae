"""Limits: requests a minute and at once for each key and tenant, requests at once in all, tokens a day for each tenant."""

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.domain.identity import ApiKey
from gateway.ports import Counters, Meter
from services.chassis.errors import Overloaded, RateLimited

__all__ = ["Limits", "Quotas", "RateState"]

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class RateState:
    """Where a key stands, or its tenant where that is what ends first: for the `x-ratelimit-*` headers."""

    limit: int
    remaining: int
    reset_s: float


class Limits:
    """Holds keys and tenants to their limits, over all gateways that share the counters.

    An administrator may give a key any limit; what the tenant's keys do together is the operator's to bound.

    Args:
        counters: Where requests are counted.
        requests_per_minute: For keys that have no limit of their own.
        max_concurrent: For keys that have no limit of their own.
        tenant_requests_per_minute: For all keys of a tenant together.
        tenant_max_concurrent: For all keys of a tenant together.
        max_in_flight: For all keys together, in this process: it is what one gateway can serve.
    """

    def __init__(
        self,
        *,
        counters: Counters,
        requests_per_minute: int,
        max_concurrent: int,
        tenant_requests_per_minute: int,
        tenant_max_concurrent: int,
        max_in_flight: int,
    ) -> None:
        self._counters = counters
        self._requests_per_minute = requests_per_minute
        self._max_concurrent = max_concurrent
        self._tenant_requests_per_minute = tenant_requests_per_minute
        self._tenant_max_concurrent = tenant_max_concurrent
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def take(self, key: ApiKey) -> tuple[RateState, bool]:
        """Count a request; return where the key stands now and whether the request is within the limits."""
        state, allowed = await self._draw(key.id, key.grant.requests_per_minute or self._requests_per_minute)
        if allowed:
            together, allowed = await self._draw(_tenant(key), self._tenant_requests_per_minute)
            if not allowed:
                return together, False
        return state, allowed

    async def _draw(self, name: str, limit: int) -> tuple[RateState, bool]:
        drawn = await self._counters.draw(name, limit)
        # With room: when the bucket is full again. Without: when the next request fits.
        missing = limit - drawn.left if drawn.allowed else 1.0 - drawn.left
        return RateState(limit, math.floor(drawn.left), missing * _MINUTE_S / limit), drawn.allowed

    @asynccontextmanager
    async def running(self, key: ApiKey) -> AsyncIterator[None]:
        """Count a request as running within the block.

        Raises:
            RateLimited: The key, or its tenant, has as many running as it may.
            Overloaded: This gateway has.
        """
        if self._in_flight >= self._max_in_flight:
            raise Overloaded("The gateway serves as many requests as it can at the moment.", retry_after_s=1.0)
        entered: list[tuple[str, str]] = []
        self._in_flight += 1
        try:
            for name, who, allowed in (
                (key.id, "key", key.grant.max_concurrent or self._max_concurrent),
                (_tenant(key), "tenant", self._tenant_max_concurrent),
            ):
                entry = await self._counters.enter(name, allowed)
                if entry is None:
                    raise RateLimited(f"This {who} may run {allowed} requests at once, and does.", retry_after_s=1.0)
                entered.append((name, entry))
            yield
        finally:
            self._in_flight -= 1
            for name, entry in entered:
                self._counters.leave(name, entry)


def _tenant(key: ApiKey) -> str:
    # Ids of keys hold no space.
    return f"tenant {key.grant.tenant}"


class Quotas:
    """Holds tenants to their tokens a day (UTC).

    The sum is read from the meter and trusted for a few seconds: a tenant may overrun by what it uses meanwhile.
    """

    def __init__(
        self,
        *,
        meter: Meter,
        trust_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._meter = meter
        self._trust_s = trust_s
        self._clock = clock
        self._now = now
        self._left: dict[str, tuple[float, int | None]] = {}

    async def check(self, tenant: str) -> None:
        """Let a request that makes tokens pass.

        Raises:
            RateLimited: The day's tokens are used up.
        """
        known = self._left.get(tenant)
        if known is None or self._clock() - known[0] > self._trust_s:
            known = (self._clock(), await self._remaining(tenant))
            self._left[tenant] = known
        if known[1] is not None and known[1] <= 0:
            now = self._now()
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
            wait_s = 86_400 - (now - midnight).total_seconds()
            raise RateLimited("The tenant's tokens of this day are used up.", retry_after_s=wait_s)

    async def _remaining(self, tenant: str) -> int | None:
        quota = await self._meter.quota(tenant)
        if quota is None:
            return None
        midnight = self._now().replace(hour=0, minute=0, second=0, microsecond=0)
        return quota - await self._meter.tokens(tenant, midnight)
