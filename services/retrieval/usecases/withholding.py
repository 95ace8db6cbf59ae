"""Take a document out of answers, or narrow its readers, before the event that does the work arrives."""

from collections.abc import Sequence

from services.retrieval.ports import Index, Register

__all__ = ["RestrictDocument", "WithholdDocument"]


class WithholdDocument:
    """Stops every search from returning a document.

    Args:
        register: Table that decides.
        index: Where its chunks are counted.
    """

    def __init__(self, *, register: Register, index: Index) -> None:
        self._register = register
        self._index = index

    async def run(self, tenant: str, document_id: str) -> int:
        """Withhold the document, indexed or not yet; return the number of its chunks in the index."""
        await self._register.withhold(tenant, document_id)
        return sum((await self._index.counts(tenant, [document_id])).values())


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
