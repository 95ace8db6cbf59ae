"""Finding things under the caller's rights: what is not theirs to know of does not exist."""

from services.chassis.auth import Caller
from services.chassis.errors import NotFound, PermissionDenied
from services.ingestion.domain.access import may_manage, may_read
from services.ingestion.domain.collections import Collection
from services.ingestion.domain.documents import Document, Version
from services.ingestion.domain.files import File
from services.ingestion.ports import Reading

__all__ = [
    "collection_for",
    "file_for",
    "living_version",
    "managed_collection",
    "managed_document",
    "managed_file",
    "readable_document",
]


async def collection_for(reading: Reading, caller: Caller, collection_id: str) -> Collection:
    """Return a collection of the caller's tenant.

    Raises:
        NotFound: There is none.
    """
    found = await reading.collection(caller.tenant, collection_id)
    if found is None:
        raise NotFound(f"collection_id: {collection_id!r} was not found.", param="collection_id")
    return found


async def managed_collection(reading: Reading, caller: Caller, collection_id: str) -> Collection:
    """Return a collection that the caller may change.

    Raises:
        NotFound: There is none.
        PermissionDenied: It is somebody else's.
    """
    found = await collection_for(reading, caller, collection_id)
    if not may_manage(caller, owner=found.owner):
        raise PermissionDenied(f"collection_id: {collection_id!r} may be changed by its owner and curators only.")
    return found


async def readable_document(reading: Reading, caller: Caller, document_id: str) -> Document:
    """Return a document that the caller may know of.

    Raises:
        NotFound: There is none.
    """
    found = await reading.document(caller.tenant, document_id)
    if found is None or not may_read(caller, owner=found.owner, principals=found.principals):
        raise NotFound(f"document_id: {document_id!r} was not found.", param="document_id")
    return found


async def managed_document(reading: Reading, caller: Caller, document_id: str) -> Document:
    """Return a document that the caller may change and that is not on its way out.

    Raises:
        NotFound: There is none that the caller may know of.
        PermissionDenied: The caller may read it and no more.
    """
    found = await readable_document(reading, caller, document_id)
    if not may_manage(caller, owner=found.owner):
        raise PermissionDenied(f"document_id: {document_id!r} may be changed by its owner and curators only.")
    if found.deleting:
        raise NotFound(f"document_id: {document_id!r} was deleted.", param="document_id")
    return found


async def living_version(
    reading: Reading, tenant: str, document_id: str, number: int
) -> tuple[Document, Version] | None:
    """Return a version with its document; None when one of them is gone, or the document is on its way out."""
    document = await reading.document(tenant, document_id)
    version = await reading.version(document_id, number)
    if document is None or document.deleting or version is None:
        return None
    return document, version


async def file_for(reading: Reading, caller: Caller, file_id: str) -> File:
    """Return a file that the caller owns, or that a document which the caller may read is made of.

    Raises:
        NotFound: There is none.
    """
    found = await reading.file(caller.tenant, file_id)
    if found is not None and (_owns(caller, found) or await _reads_a_document_of(reading, caller, found)):
        return found
    raise NotFound(f"file_id: {file_id!r} was not found.", param="file_id")


async def managed_file(reading: Reading, caller: Caller, file_id: str) -> File:
    """Return a file that the caller may delete.

    Raises:
        NotFound: There is none that the caller may know of.
        PermissionDenied: The caller may read it and no more.
    """
    found = await file_for(reading, caller, file_id)
    if not _owns(caller, found):
        raise PermissionDenied(f"file_id: {file_id!r} may be deleted by its owner and administrators only.")
    return found


def _owns(caller: Caller, file: File) -> bool:
    return caller.subject == file.owner or caller.is_administrator


async def _reads_a_document_of(reading: Reading, caller: Caller, file: File) -> bool:
    documents = await reading.documents_of_file(caller.tenant, file.file_id)
    return any(may_read(caller, owner=entry.owner, principals=entry.principals) for entry in documents)
