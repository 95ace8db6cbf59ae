"""Counting requests, so that limits can be held."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Counters", "Drawn"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What drawing from a bucket gave.

    Attributes:
        allowed: Whether there was a whole token.
        left: Tokens left, with their fraction.
    """

    allowed: bool
    left: float


class Counters(Protocol):
    """Counts by name. Where several gateways share them, a name is one count for all."""

    async def draw(self, name: str, per_minute: int) -> Drawn:
        """Take a token from a bucket that holds `per_minute` and fills evenly within a minute."""
        ...

    async def enter(self, name: str, most: int) -> str | None:
        """Count one more that runs; return what to leave with, or None when `most` run already."""
        ...

    def leave(self, name: str, entry: str) -> None:
        """Count one less that runs."""
        ...

    async def run(self) -> None:
        """Keep what runs counted, until cancelled."""
        ...

    async def close(self) -> None:
        """Let go of where the counts are."""
        ...
