"""DocumentService."""

from collections.abc import AsyncIterator

from brain.ingestion.v1 import document_pb2
from services.chassis.auth import current_caller
from services.chassis.errors import InvalidInput
from services.ingestion.api.wire import (
    chunking_of,
    deletion_message,
    document_message,
    header_and_parts,
    page_in,
    section_message,
    state_of,
)
from services.ingestion.domain.documents import DocumentQuery
from services.ingestion.usecases.access import SetAccess
from services.ingestion.usecases.adding import Adding, Wish
from services.ingestion.usecases.deleting import Deleting
from services.ingestion.usecases.documents import Documents

__all__ = ["DocumentServicer"]


class DocumentServicer:
    """Documents over gRPC."""

    def __init__(self, *, adding: Adding, documents: Documents, set_access: SetAccess, deleting: Deleting) -> None:
        self._adding = adding
        self._documents = documents
        self._set_access = set_access
        self._deleting = deleting

    async def UploadDocument(
        self, request: AsyncIterator[document_pb2.UploadDocumentRequest], context: object
    ) -> document_pb2.UploadDocumentResponse:
        """Keep an upload as a new document or a new version."""
        first, parts = await header_and_parts(request)
        header = first.header
        document, unchanged = await self._adding.upload(
            current_caller(), _wish(header), filename=header.filename, key=header.key, parts=parts
        )
        return document_pb2.UploadDocumentResponse(document=document_message(document), unchanged=unchanged)

    async def AddFile(self, request: document_pb2.AddFileRequest, context: object) -> document_pb2.AddFileResponse:
        """Make a document of a kept file."""
        document, unchanged = await self._adding.add_file(current_caller(), _wish(request), request.file_id)
        return document_pb2.AddFileResponse(document=document_message(document), unchanged=unchanged)

    async def GetDocument(
        self, request: document_pb2.GetDocumentRequest, context: object
    ) -> document_pb2.GetDocumentResponse:
        """Return one document's record."""
        match request.WhichOneof("name"):
            case "document_id":
                found = await self._documents.get(current_caller(), request.document_id)
            case "file":
                place = request.file
                found = await self._documents.get_by_file(current_caller(), place.collection_id, place.file_id)
            case _:
                raise InvalidInput("name: give a document_id, or a file in a collection.", param="document_id")
        return document_pb2.GetDocumentResponse(document=document_message(found))

    async def ListDocuments(
        self, request: document_pb2.ListDocumentsRequest, context: object
    ) -> document_pb2.ListDocumentsResponse:
        """Return the documents of a collection that the caller may see."""
        query = DocumentQuery(
            page=page_in(request, largest=1_000),
            states=tuple(state_of(number) for number in request.states),
            file_ids=tuple(request.file_ids),
            key_prefix=request.key_prefix,
            name_contains=request.name_contains,
        )
        found, has_more = await self._documents.list(current_caller(), request.collection_id, query)
        return document_pb2.ListDocumentsResponse(
            documents=[document_message(entry) for entry in found], has_more=has_more
        )

    async def UpdateDocument(
        self, request: document_pb2.UpdateDocumentRequest, context: object
    ) -> document_pb2.UpdateDocumentResponse:
        """Replace a document's attributes."""
        changed = await self._documents.update(current_caller(), request.document_id, request.attributes_json)
        return document_pb2.UpdateDocumentResponse(document=document_message(changed))

    async def SetAccess(
        self, request: document_pb2.SetAccessRequest, context: object
    ) -> document_pb2.SetAccessResponse:
        """Replace a document's access list."""
        changed = await self._set_access(current_caller(), request.document_id, tuple(request.principals))
        return document_pb2.SetAccessResponse(document=document_message(changed))

    async def GetDocumentText(
        self, request: document_pb2.GetDocumentTextRequest, context: object
    ) -> document_pb2.GetDocumentTextResponse:
        """Return the stored text of a version."""
        stored = await self._documents.text(current_caller(), request.document_id, request.version)
        return document_pb2.GetDocumentTextResponse(
            document_id=stored.document_id,
            version=stored.version,
            text=stored.text,
            sections=[section_message(section) for section in stored.sections],
        )

    async def DeleteDocument(
        self, request: document_pb2.DeleteDocumentRequest, context: object
    ) -> document_pb2.DeleteDocumentResponse:
        """Withhold a document at once and begin to remove it."""
        receipt = await self._deleting.delete(current_caller(), request.document_id)
        return document_pb2.DeleteDocumentResponse(deletion=deletion_message(receipt))

    async def GetDeletion(
        self, request: document_pb2.GetDeletionRequest, context: object
    ) -> document_pb2.GetDeletionResponse:
        """Return the receipt of a deletion."""
        receipt = await self._deleting.receipt(current_caller(), request.document_id)
        return document_pb2.GetDeletionResponse(deletion=deletion_message(receipt))

    async def CancelDocument(
        self, request: document_pb2.CancelDocumentRequest, context: object
    ) -> document_pb2.CancelDocumentResponse:
        """End the work on a document that is not searchable yet."""
        document = await self._documents.cancel(current_caller(), request.document_id)
        return document_pb2.CancelDocumentResponse(document=document_message(document))


def _wish(message: document_pb2.UploadDocumentHeader | document_pb2.AddFileRequest) -> Wish:
    return Wish(
        collection_id=message.collection_id,
        principals=tuple(message.principals) if message.has_access else None,
        attributes_json=message.attributes_json,
        chunking=chunking_of(message.chunking) if message.HasField("chunking") else None,
    )
