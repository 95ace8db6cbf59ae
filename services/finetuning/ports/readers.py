"""Who may read documents."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.chassis.auth import Caller

__all__ = ["Readers"]


class Readers(Protocol):
    """The access lists of documents."""

    async def readers(self, caller: Caller, document_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the principals who may read each document; documents that are gone, or not for the caller, are left out.

        Raises:
            Unavailable: The ingestion room is away.
        """
        ...
