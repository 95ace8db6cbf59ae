"""Making the rows of a dataset."""

from dataclasses import dataclass
from typing import Protocol

from services.chassis.auth import Caller
from services.finetuning.domain.datasets import DatasetSpec

__all__ = ["Builder", "Built"]


@dataclass(frozen=True, slots=True)
class Built:
    """The rows of a dataset, as lines of JSON.

    Attributes:
        training: Rows to train on.
        held_out: Rows that are held out; empty for none.
        rows: Number of the first.
        held_out_rows: Number of the second.
        documents: Documents that they come from.
        judgements: Judgements that they come from.
        report_json: What was made, left out and why.
    """

    training: bytes
    held_out: bytes
    rows: int
    held_out_rows: int
    documents: int
    judgements: int
    report_json: str


class Builder(Protocol):
    """Makes rows, from what its caller may read."""

    async def build(self, caller: Caller, spec: DatasetSpec) -> Built:
        """Return the rows that a spec describes.

        Raises:
            InvalidInput: Nothing can be made of what was named.
            NotFound: A collection or file is not there, or not for the caller.
            Unavailable: A room is away.
        """
        ...
