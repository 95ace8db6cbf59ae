"""How much work is let in, and how it is thrown out again when the engine is stuck."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.chassis.errors import Overloaded, Unavailable
from services.generation.telemetry import Metrics

__all__ = ["Admission"]

# A continuation lasts seconds: asking again sooner would only be refused again.
_RETRY_AFTER_S = 2.0


class Admission:
    """Counts what is being produced and refuses what is too much.

    Args:
        limit: Most continuations at once.
        metrics: Where they are counted.
    """

    def __init__(self, *, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._inflight = 0
        self._scopes: set[asyncio.Timeout] = set()

    @property
    def inflight(self) -> int:
        """Continuations being produced."""
        return self._inflight

    @asynccontextmanager
    async def admitted(self, count: int) -> AsyncIterator[None]:
        """Hold `count` places within the block, which must run in one task.

        Raises:
            Overloaded: There are not as many places left.
            Unavailable: The engine got stuck while the block ran.
        """
        if self._inflight + count > self._limit:
            self._metrics.refused.inc()
            raise Overloaded(
                f"The engine is busy with {self._inflight} of at most {self._limit} continuations.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._inflight += count
        self._metrics.inflight.inc(count)
        # Without a deadline of its own: the scope is what `abandon` ends the work with, at no cost for each token.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise Unavailable("The engine makes no progress.", retry_after_s=_RETRY_AFTER_S) from error
        finally:
            self._scopes.discard(scope)
            self._inflight -= count
            self._metrics.inflight.dec(count)

    def abandon(self) -> None:
        """End all running work with Unavailable."""
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)
