"""Access lists: who may read a document. Narrowing holds at once, widening when the index has followed."""

from collections.abc import Callable, Sequence
from typing import Final

from services.chassis.auth import Caller
from services.chassis.errors import Conflict
from services.ingestion.domain.access import checked_principals, is_narrower, readers
from services.ingestion.domain.documents import Document
from services.ingestion.domain.facts import AccessChanged
from services.ingestion.ports import Index, Ledger
from services.ingestion.usecases.lookup import managed_document

__all__ = ["SetAccess"]

# Two people who change one list in the same moment both get their turn.
_TRIES: Final = 5


class SetAccess:
    """Replaces a document's access list.

    Args:
        ledger: Records.
        index: What must stop showing the document to those who may no longer read it.
        now: Seconds since 1970.
    """

    def __init__(self, *, ledger: Ledger, index: Index, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._index = index
        self._now = now

    async def __call__(self, caller: Caller, document_id: str, principals: Sequence[str]) -> Document:
        """Replace the list and return the document as it is then.

        Raises:
            InvalidInput: A principal is wrong.
            NotFound: No such document.
            Unavailable: The list is narrower and the index cannot be asked; nothing has changed.
        """
        wanted = checked_principals(principals)
        for _ in range(_TRIES):
            document = await managed_document(self._ledger, caller, document_id)
            if document.principals == wanted:
                return document
            if await self._replace(document, wanted):
                return await managed_document(self._ledger, caller, document_id)
        raise Conflict(f"document_id: the access list of {document_id!r} is being changed by others; try again.")

    async def _replace(self, document: Document, wanted: tuple[str, ...]) -> bool:
        allowed = readers(document.owner, wanted)
        revision = document.access_revision + 1
        if is_narrower(document.owner, old=document.principals, new=wanted):
            await self._index.restrict(document.document_id, allowed, revision)
        async with self._ledger.change() as change:
            if not await change.set_access(document, wanted, self._now()):
                return False
            fact = AccessChanged(document.document_id, document.collection_id, allowed, revision)
            await change.announce(document.tenant, fact)
        return True
