"""Limits: requests a minute and at once for each key and tenant, requests at once in all, tokens a day for each tenant."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.domain.identity import ApiKey
from gateway.ports import Meter
from services.chassis.errors import Overloaded, RateLimited

__all__ = ["Limits", "Quotas", "RateState"]

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class RateState:
    """Where a key stands, or its tenant where that is what ends first: for the `x-ratelimit-*` headers."""

    limit: int
    remaining: int
    reset_s: float


class _Bucket:
    """A token bucket that holds a minute's requests and fills evenly."""

    __slots__ = ("filled_at", "level")

    def __init__(self, level: float, filled_at: float) -> None:
        self.level = level
        self.filled_at = filled_at


class Limits:
    """Holds keys and tenants to their limits, in this process.

    An administrator may give a key any limit; what the tenant's keys do together is the operator's to bound.

    Args:
        requests_per_minute: For keys that have no limit of their own.
        max_concurrent: For keys that have no limit of their own.
        tenant_requests_per_minute: For all keys of a tenant together.
        tenant_max_concurrent: For all keys of a tenant together.
        max_in_flight: For all keys together.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int,
        max_concurrent: int,
        tenant_requests_per_minute: int,
        tenant_max_concurrent: int,
        max_in_flight: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._max_concurrent = max_concurrent
        self._tenant_requests_per_minute = tenant_requests_per_minute
        self._tenant_max_concurrent = tenant_max_concurrent
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._running: Counter[str] = Counter()
        self._in_flight = 0

    def take(self, key: ApiKey) -> tuple[RateState, bool]:
        """Count a request; return where the key stands now and whether the request is within the limits."""
        state, allowed = self._draw(key.id, key.grant.requests_per_minute or self._requests_per_minute)
        if allowed:
            together, allowed = self._draw(_tenant(key), self._tenant_requests_per_minute)
            if not allowed:
                return together, False
        return state, allowed

    def _draw(self, name: str, limit: int) -> tuple[RateState, bool]:
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            self._drop_full(now)
            bucket = self._buckets[name] = _Bucket(float(limit), now)
        bucket.level = min(float(limit), bucket.level + (now - bucket.filled_at) * limit / _MINUTE_S)
        bucket.filled_at = now
        if allowed := bucket.level >= 1.0:
            bucket.level -= 1.0
        # With room: when the bucket is full again. Without: when the next request fits.
        missing = limit - bucket.level if allowed else 1.0 - bucket.level
        return RateState(limit, math.floor(bucket.level), missing * _MINUTE_S / limit), allowed

    @contextmanager
    def running(self, key: ApiKey) -> Iterator[None]:
        """Count a request as running within the block.

        Raises:
            RateLimited: The key, or its tenant, has as many running as it may.
            Overloaded: All keys together have.
        """
        tenant = _tenant(key)
        for name, who, allowed in (
            (key.id, "key", key.grant.max_concurrent or self._max_concurrent),
            (tenant, "tenant", self._tenant_max_concurrent),
        ):
            if self._running[name] >= allowed:
                raise RateLimited(f"This {who} may run {allowed} requests at once, and does.", retry_after_s=1.0)
        if self._in_flight >= self._max_in_flight:
            raise Overloaded("The gateway serves as many requests as it can at the moment.", retry_after_s=1.0)
        self._running.update((key.id, tenant))
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._running.subtract((key.id, tenant))
            # Names that nothing runs for are let go.
            self._running += Counter()

    def _drop_full(self, now: float) -> None:
        """Let go of buckets that have been idle for a minute: they are full, as a new one is."""
        if len(self._buckets) < 10_000:
            return
        for key_id in [name for name, bucket in self._buckets.items() if now - bucket.filled_at > _MINUTE_S]:
            del self._buckets[key_id]


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
