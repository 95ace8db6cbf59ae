"""Indexes and the embedders whose vectors they hold: which one is searched, and which is on its way."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROBES", "IndexMoved", "IndexRecord", "IndexState", "PendingDocument", "Unembeddable", "alike"]

# What every embedder is asked when its index is made and whenever a process opens it: its answers are the fingerprint that
# a name cannot give, since an endpoint may serve another model under the same name tomorrow.
PROBES: Final = (
    "How many days of paid leave do employees get?",
    "The price of the annual subscription rises by four percent in March.",
    "Wer haftet für Schäden, die auf dem Transportweg entstehen?",
    "def area(width, height): return width * height",
)
# The same model answers with the same vectors up to rounding: other hardware, other batches or eight-bit weights leave the
# cosine above .97, two different models of one dimension are near zero.
_LEAST_COSINE: Final = 0.95


class IndexMoved(Exception):
    """Another index is live than the one that was written or searched; do it again with that one."""


class IndexState(StrEnum):
    """What an index is for. There is at most one in each state."""

    BUILDING = "building"
    LIVE = "live"
    OLD = "old"


@dataclass(frozen=True, slots=True, eq=False)
class IndexRecord:
    """What the room's table says of one index.

    Attributes:
        name: Of the LanceDB table or Weaviate collection.
        digest: Of the embedder whose vectors it holds.
        model: Name of that embedder, for people.
        dimension: Components of a vector.
        probes: That embedder's vectors of `PROBES`, one row each.
        state: What it is for.
        since: Seconds since 1970 at which it came into this state.
    """

    name: str
    digest: str
    model: str
    dimension: int
    probes: NDArray[np.float32]
    state: IndexState
    since: float


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document that an index on its way does not hold as it is now."""

    tenant: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Unembeddable:
    """A document that cannot be embedded again, and why."""

    tenant: str
    document_id: str
    reason: str


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Return whether two sets of unit vectors of `PROBES` come from the same model."""
    return one.shape == other.shape and bool(((one * other).sum(axis=1) >= _LEAST_COSINE).all())
