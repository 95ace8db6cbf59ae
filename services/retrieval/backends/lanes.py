"""Who goes next on the model's one thread: the first lane that waits, but no lane is left without a share of the time."""

from collections.abc import Collection
from enum import IntEnum
from typing import Final

__all__ = ["Lane", "Turns"]

# Seconds a lane behind others is owed for each second they had while it waited. Under questions without a gap that makes a
# ninth of the thread for passages: a document is searchable late, not never. What it is, searches give up.
_SHARE: Final = 0.125


class Lane(IntEnum):
    """Who goes first."""

    QUERY = 0
    RERANK = 1
    PASSAGE = 2


class Turns:
    """Gives the first waiting lane the turn, unless a later one is owed the time of a run (deficit round robin).

    Shreedhar and Varghese, Efficient Fair Queueing Using Deficit Round Robin, 1995; here only lanes behind others save up.
    """

    def __init__(self) -> None:
        self._owed = dict.fromkeys(Lane, 0.0)
        # What the last run took, as the next one's price.
        self._price = dict.fromkeys(Lane, 0.0)

    def choose(self, waiting: Collection[Lane]) -> Lane:
        """Return which of the waiting lanes has the turn.

        Args:
            waiting: At least one lane.
        """
        first = min(waiting)
        # A lane that never ran has no price yet: it has to be owed something all the same.
        due = [lane for lane in waiting if lane > first and self._owed[lane] > self._price[lane]]
        return max(due, key=lambda lane: self._owed[lane] - self._price[lane], default=first)

    def ran(self, lane: Lane, seconds: float, waiting: Collection[Lane]) -> None:
        """Take down what a run took, and which lanes wait after it.

        Args:
            lane: Whose run it was.
            seconds: How long it took.
            waiting: The lanes that have something left; what the others were owed is forgotten.
        """
        self._price[lane] = seconds
        self._owed[lane] -= seconds
        for other in Lane:
            if other not in waiting:
                self._owed[other] = 0.0
            elif other > lane:
                self._owed[other] += seconds * _SHARE
            # The first lane pays nothing back: a turn that nobody else waited for is not held against it.
            self._owed[other] = max(0.0, self._owed[other])
