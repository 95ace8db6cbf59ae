"""A document's attributes: kept as a blob, because events carry no text of the caller's."""

from services.chassis.errors import Conflict
from services.ingestion.domain.blobs import Blob, version_key
from services.ingestion.domain.documents import Attributes, Document, attributes_json
from services.ingestion.domain.facts import AttributesChanged
from services.ingestion.ports import Blobs, Change

__all__ = ["put_attributes"]


async def put_attributes(change: Change, blobs: Blobs, document: Document, attributes: Attributes, at: float) -> None:
    """Replace a document's attributes and announce it.

    Raises:
        Conflict: Others changed them in the same moment.
    """
    if not await change.set_attributes(document, attributes, at):
        raise Conflict(f"document_id: {document.document_id!r} changed in the same moment; try again.")
    revision = document.attributes_revision + 1
    key = version_key(document.tenant, Blob.ATTRIBUTES, document.document_id, revision)
    await blobs.put(key, (attributes_json(attributes) or "{}").encode())
    fact = AttributesChanged(document.document_id, document.collection_id, key, revision)
    await change.announce(document.tenant, fact)
