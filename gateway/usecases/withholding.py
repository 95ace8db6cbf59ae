"""Documents and readers taken away, and the adapters that learned from them refused before anybody is told.

Where the document is known it is blocked first and taken away then; where only the room knows which documents go (of a
file, of a collection) they are blocked as soon as it has said so. Either way the answer comes after both. When the
finetuning room is away the documents go all the same, for the event that ingestion publishes does its part of the work
later, and the answer says that adapters are pending.
"""

from collections.abc import AsyncIterable, Sequence
from typing import Final

import structlog

from gateway.domain.adapters import Reach
from gateway.domain.keeping import Deletion, Document, NewDocument
from gateway.ports import Adapters, Withdrawal
from services.chassis.auth import Role, at_least, current_caller
from services.chassis.errors import BrainError

__all__ = ["Withholding"]

_log = structlog.get_logger()
# Ids in one call: a collection may hold a hundred thousand.
_BATCH: Final = 1000


class Withholding:
    """Takes documents, or their readers, away.

    Args:
        documents: The ingestion room.
        adapters: The finetuning room.
    """

    def __init__(self, *, documents: Withdrawal, adapters: Adapters) -> None:
        self._documents = documents
        self._adapters = adapters

    async def delete_document(self, document_id: str) -> tuple[Deletion, Reach]:
        """Withhold a document at once and begin to remove it.

        Raises:
            NotFound: There is none, or none that the caller may know of.
            PermissionDenied: It is somebody else's; nothing is blocked.
        """
        if _may_manage(await self._documents.get_document(document_id)):
            reach = await self._withhold([document_id])
            return await self._documents.delete_document(document_id), reach
        # The ingestion room has the last word on who may; without it nobody's adapter is blocked.
        deletion = await self._documents.delete_document(document_id)
        return deletion, await self._withhold([document_id])

    async def set_access(self, document_id: str, principals: Sequence[str]) -> tuple[Document, Reach]:
        """Replace a document's access list.

        Raises:
            NotFound: There is none, or none that the caller may know of.
            PermissionDenied: It is somebody else's; nothing is blocked.
        """
        present = await self._documents.get_document(document_id)
        if _may_manage(present):
            reach = await self._withhold([document_id], readers=_readers(present.owner, principals))
            return await self._documents.set_access(document_id, principals), reach
        changed = await self._documents.set_access(document_id, principals)
        return changed, await self._withhold([document_id], readers=_readers(changed.owner, principals))

    async def upload(self, new: NewDocument, data: AsyncIterable[bytes]) -> tuple[Document, bool, Reach | None]:
        """Keep a document, or a new version; return it, whether nothing had changed, and what a new access list reached."""
        document, unchanged = await self._documents.upload_document(new, data)
        if new.principals is None or (document.version == 1 and not unchanged):
            return document, unchanged, None
        reach = await self._withhold([document.id], readers=_readers(document.owner, new.principals))
        return document, unchanged, reach

    async def delete_file(self, file_id: str) -> tuple[Sequence[str], Reach]:
        """Delete a file; return the documents that went with it."""
        gone = await self._documents.delete_file(file_id)
        return gone, await self._withhold(gone)

    async def delete_collection(self, collection_id: str) -> tuple[Sequence[str], Reach]:
        """Delete a collection; return the documents that went with it."""
        gone = await self._documents.delete_collection(collection_id)
        return gone, await self._withhold(gone)

    async def _withhold(self, document_ids: Sequence[str], *, readers: Sequence[str] | None = None) -> Reach:
        blocked: list[str] = []
        try:
            for start in range(0, len(document_ids), _BATCH):
                blocked += await self._adapters.withhold(document_ids[start : start + _BATCH], principals=readers)
        except BrainError as error:
            # Whatever ails the finetuning room must not keep a document alive.
            _log.warning("adapters_not_reached", documents=len(document_ids), code=error.code)
            return Reach(tuple(dict.fromkeys(blocked)), is_pending=True)
        return Reach(tuple(dict.fromkeys(blocked)))


def _may_manage(document: Document) -> bool:
    """Return whether ingestion will let the caller change a document: its owner, curators and administrators."""
    caller = current_caller()
    return caller.subject == document.owner or caller.may(at_least(Role.CURATOR))


def _readers(owner: str, principals: Sequence[str]) -> tuple[str, ...]:
    """Return who may read from now on, as the event says it: the owner too."""
    return tuple(dict.fromkeys((f"user:{owner}", *principals)))
