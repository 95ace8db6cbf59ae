"""Take a document out of answers, or narrow its readers, before the event that does the work arrives."""

from collections.abc import Sequence

from services.retrieval.ports import Register
from services.retrieval.usecases.serving import LiveIndexes

__all__ = ["RestrictDocument", "WithholdDocument"]


class WithholdDocument:
    """Stops every search from returning a document.

    Args:
        register: Table that decides.
        indexes: Where its chunks are counted.
    """

    def __init__(self, *, register: Register, indexes: LiveIndexes) -> None:
        self._register = register
        self._indexes = indexes

    async def run(self, tenant: str, document_id: str) -> int:
        """Withhold the document, indexed or not yet; return the number of its chunks in the live index."""
        await self._register.withhold(tenant, document_id)
        counts = await self._indexes.on_live(lambda served: served.index.counts(tenant, [document_id]))
        return sum(counts.values())


class RestrictDocument:
    """Replaces the principals who may read a document.

    Args:
        register: Table that decides.
    """

    def __init__(self, *, register: Register) -> None:
        self._register = register

    async def run(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> int:
        """Restrict the document unless a newer revision holds; return the revision in force."""
        return await self._register.restrict(tenant, document_id, principals, revision)
