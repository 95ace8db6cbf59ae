"""What is published is told of when the engine knows it: who asks at once must not hear that there is no such model."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from services.chassis.errors import BrainError, Conflict
from services.finetuning.ports.serving import Serving

__all__ = ["AwaitEngine"]

# What was published reaches the engine as an event within milliseconds, and is fetched, loaded and compared with its base
# model in about a second. An engine that is away or busy for longer must not keep a job from its end.
_PATIENCE_S: Final = 15.0
# An alias is known with its event; whoever moved it waits for that.
_ALIAS_PATIENCE_S: Final = 3.0
_PAUSE_S: Final = 0.1


class AwaitEngine:
    """Waits until the engine answers for what was published.

    Args:
        serving: The engine.
        patience_s: Longest wait for all adapters of one publication.
        alias_patience_s: Longest wait for an alias.
    """

    def __init__(
        self, *, serving: Serving, patience_s: float = _PATIENCE_S, alias_patience_s: float = _ALIAS_PATIENCE_S
    ) -> None:
        self._serving = serving
        self._patience_s = patience_s
        self._alias_patience_s = alias_patience_s

    async def __call__(self, names: Sequence[str]) -> str:
        """Return when the engine answers for all of these adapters, or will not; then with the reason, else with nothing."""
        missing = [*names]
        reason = ""
        async for _ in _looks(self._patience_s):
            try:
                while missing and await self._serving.serves(missing[0]):
                    missing.pop(0)
            except Conflict as error:
                # It looked at the adapter, and will not have it.
                return error.message
            except BrainError as error:
                reason = error.message
            if not missing:
                return ""
        return reason or f"after {self._patience_s:g} s {missing[0]} is not loaded"

    async def alias(self, name: str, target: str) -> bool:
        """Return when an alias leads to its new target; False when the engine has not heard of it in good time."""
        async for _ in _looks(self._alias_patience_s):
            try:
                if await self._serving.leads(name) == target:
                    return True
            except BrainError:
                # The engine is away: who asks now is told so.
                return False
        return False


async def _looks(patience_s: float) -> AsyncIterator[None]:
    """Yield at once, then again and again until the patience is at its end, and a last time then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while loop.time() < until:
        yield
        await asyncio.sleep(_PAUSE_S)
    yield
