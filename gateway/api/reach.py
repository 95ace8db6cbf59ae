"""What a deletion, or a narrower access list, has reached of the adapters, in every dialect's answer."""

from typing import Any

from gateway.domain.adapters import Reach

__all__ = ["reached"]


def reached(reach: Reach | None) -> dict[str, Any]:
    """Return the field `adapters`: those that are refused from now on, or `pending` where that follows by event."""
    if reach is None:
        return {}
    return {"adapters": "pending" if reach.is_pending else list(reach.blocked)}
