"""Counters of this process alone."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable

from gateway.ports import Drawn

__all__ = ["MemoryCounters"]

_MINUTE_S = 60.0
# Buckets kept before those that have been idle for a minute, which are full as new ones are, are let go.
_MAX_BUCKETS = 10_000


class _Bucket:
    """A token bucket."""

    __slots__ = ("filled_at", "level")

    def __init__(self, level: float, filled_at: float) -> None:
        self.level = level
        self.filled_at = filled_at


class MemoryCounters:
    """Back end of the counters.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._running: Counter[str] = Counter()

    async def draw(self, name: str, per_minute: int) -> Drawn:
        """Take a token."""
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            self._drop_full(now)
            bucket = self._buckets[name] = _Bucket(float(per_minute), now)
        bucket.level = min(float(per_minute), bucket.level + (now - bucket.filled_at) * per_minute / _MINUTE_S)
        bucket.filled_at = now
        if allowed := bucket.level >= 1.0:
            bucket.level -= 1.0
        return Drawn(allowed, bucket.level)

    async def enter(self, name: str, most: int) -> str | None:
        """Count one more."""
        if self._running[name] >= most:
            return None
        self._running[name] += 1
        return uuid.uuid4().hex

    def leave(self, name: str, entry: str) -> None:
        """Count one less."""
        self._running[name] -= 1
        # Names that nothing runs for are let go.
        if self._running[name] <= 0:
            del self._running[name]

    async def run(self) -> None:
        """Do nothing until cancelled: what this process counts ends with it."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is held."""

    def _drop_full(self, now: float) -> None:
        if len(self._buckets) < _MAX_BUCKETS:
            return
        for name in [name for name, bucket in self._buckets.items() if now - bucket.filled_at > _MINUTE_S]:
            del self._buckets[name]
