"""Acting in the name of a job's owner, with the room's own key."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.chassis.auth import Caller, TokenMinter, acting_as

__all__ = ["KeyedDelegation"]


class KeyedDelegation:
    """Mints a token for the owner each time it is needed; other rooms take it for the RPCs that they list for us.

    Args:
        minter: Signs with the room's key, marked as on behalf of somebody.
    """

    def __init__(self, minter: TokenMinter) -> None:
        self._minter = minter

    @contextmanager
    def acting_for(self, caller: Caller) -> Iterator[None]:
        """Call other rooms as `caller` within the block."""
        with acting_as(caller, self._minter.mint(caller)):
            yield
