"""Adapters are spoken of as made when the engine answers for them: who asks at once must not hear that there is none."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.chassis.errors import BrainError, Conflict, PermissionDenied
from services.finetuning.ports.serving import Serving

__all__ = ["AwaitEngine"]

# What was published reaches the engine as an event within milliseconds, and is fetched, loaded and compared with its base
# model in about a second. An engine that is away or busy for longer must not keep a job from its end.
_PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Standing:
    """Whether there is more to wait for with an adapter, and what speaks against it."""

    is_final: bool
    reason: str = ""


class AwaitEngine:
    """Waits until the engine answers for adapters that were published.

    Args:
        serving: The engine.
        patience_s: Longest wait for all of them.
    """

    def __init__(self, *, serving: Serving, patience_s: float = _PATIENCE_S) -> None:
        self._serving = serving
        self._patience_s = patience_s

    async def __call__(self, names: Sequence[str]) -> str:
        """Return when the engine answers for all of `names`, or does not; then with the reason, else with nothing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        for name in names:
            reason = ""
            while not (served := await self._served(name)).is_final:
                reason = served.reason
                if loop.time() >= until:
                    return reason or f"after {self._patience_s:g} s {name} is not loaded yet"
                await asyncio.sleep(_PAUSE_S)
            if served.reason:
                return served.reason
        return ""

    async def _served(self, name: str) -> _Standing:
        try:
            return _Standing(is_final=await self._serving.serves(name))
        except (Conflict, PermissionDenied) as error:
            # It looked at the adapter and will not have it, or somebody blocked it meanwhile.
            return _Standing(is_final=True, reason=error.message)
        except BrainError as error:
            return _Standing(is_final=False, reason=error.message)
