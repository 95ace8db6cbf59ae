"""Aliases: names that lead to a model, and to another one for a share of the callers."""

import hashlib
import math
from dataclasses import dataclass

from services.chassis.errors import InvalidInput

__all__ = ["AliasState", "in_share"]


@dataclass(frozen=True, slots=True)
class AliasState:
    """Where an alias leads; a state with a higher revision replaces it.

    Attributes:
        tenant: Whose it is.
        alias: The name.
        target: Adapter or base model that answers; empty when the alias is gone.
        canary: Adapter that answers a share of the callers; empty for none.
        canary_weight: That share, 0 to 1.
        revision: Grows with every change.
    """

    tenant: str
    alias: str
    target: str
    canary: str
    canary_weight: float
    revision: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.canary_weight) or not 0 <= self.canary_weight <= 1:
            raise InvalidInput(
                f"canary_weight: {self.canary_weight:g} is not allowed; use a number from 0 to 1.",
                param="canary_weight",
            )


def in_share(tenant: str, alias: str, subject: str, weight: float) -> bool:
    """Return whether a caller is among those whom the canary answers.

    A caller lies at one place between 0 and 1 for ever, so that the same one answers as long as the weight stands, and
    a new weight moves nobody but those between the old boundary and the new one.
    """
    digest = hashlib.sha256(f"{tenant}\0{alias}\0{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / (1 << 64) < weight
