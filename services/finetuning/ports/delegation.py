"""Acting in the name of somebody whose request is over."""

from contextlib import AbstractContextManager
from typing import Protocol

from services.chassis.auth import Caller

__all__ = ["Delegation"]


class Delegation(Protocol):
    """Lets the room call others in the name of whoever created a job."""

    def acting_for(self, caller: Caller, *, work: str) -> AbstractContextManager[None]:
        """Call other rooms as `caller` within the block, for the job or dataset `work`."""
        ...
