"""What the room needs from the generation room."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AdapterCheck", "EngineLimits", "Serving"]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine that will serve an adapter says of itself; empty and 0 where it does not know.

    Attributes:
        base_model: Name of its base model.
        base_digest: SHA-256 over the base model's weight files.
        template_hash: SHA-256 of the chat template.
        max_rank: Largest rank of an adapter.
        modules: Last parts of the names of the layers that adapters may change.
        max_bytes: Largest weights file.
    """

    base_model: str
    base_digest: str
    template_hash: str
    max_rank: int
    modules: tuple[str, ...]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class AdapterCheck:
    """What the engine found in an adapter that it could serve."""

    weights_digest: str
    config_digest: str
    rank: int
    size_bytes: int


class Serving(Protocol):
    """The engine that serves adapters."""

    async def limits(self) -> EngineLimits:
        """Return what an adapter must fit.

        Raises:
            Unavailable: The engine is away.
        """
        ...

    async def check(self, *, config_key: str, weights_key: str) -> AdapterCheck:
        """Look into an adapter's blobs as loading it would.

        Raises:
            InvalidInput: It cannot be served; the message says why.
            TooLarge: Its weights exceed the limit.
            Unavailable: The engine is away.
        """
        ...

    async def serves(self, name: str) -> bool:
        """Return whether the engine answers for an adapter; False while it has not heard of it or loads it.

        Raises:
            Conflict: It refuses the adapter; the message says why.
            PermissionDenied: The adapter is blocked.
            Unavailable: The engine is away.
        """
        ...

    async def leads(self, alias: str) -> str:
        """Return where an alias leads that the caller may ask, as the engine knows it; empty for nowhere.

        Raises:
            Unavailable: The engine is away.
        """
        ...

    async def withhold(self, adapters: Sequence[tuple[str, int]]) -> None:
        """Refuse adapters, given by name and revision, at once.

        Raises:
            Unavailable: The engine is away.
        """
        ...
