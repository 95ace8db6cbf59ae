"""Acting in the name of a job's owner, with the room's own key."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.chassis.auth import Caller, WorkerMinter, acting_as

__all__ = ["KeyedDelegation"]


class KeyedDelegation:
    """Mints a token for the owner when work begins; other rooms take it for the RPCs that they list for us.

    Args:
        minter: Signs with the room's key; its tokens must outlive the longest piece of work.
    """

    def __init__(self, minter: WorkerMinter) -> None:
        self._minter = minter

    @contextmanager
    def acting_for(self, caller: Caller, *, work: str) -> Iterator[None]:
        """Call other rooms as `caller` within the block, for the job or dataset `work`."""
        with acting_as(caller, self._minter.mint(caller, work=work)):
            yield
