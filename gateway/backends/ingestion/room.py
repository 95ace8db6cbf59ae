"""The ingestion room over gRPC."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import grpc

from brain.ingestion.v1 import batch_pb2, collection_pb2, document_pb2, file_pb2
from brain.ingestion.v1.batch_pb2_grpc import FileBatchServiceStub
from brain.ingestion.v1.collection_pb2_grpc import CollectionServiceStub
from brain.ingestion.v1.document_pb2_grpc import DocumentServiceStub
from brain.ingestion.v1.file_pb2_grpc import FileServiceStub
from gateway.backends.ingestion import words
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S, locator
from gateway.domain.keeping import (
    Batch,
    BatchItem,
    Chunking,
    Collection,
    CollectionChanges,
    Deletion,
    Document,
    DocumentState,
    DocumentText,
    NewDocument,
    Page,
    Paging,
    StoredFile,
    TextSection,
)
from services.chassis.errors import BrainError
from services.chassis.rpc.client import remote

__all__ = ["IDEMPOTENT", "GrpcIngestion"]

_ROOM = "ingestion"
IDEMPOTENT = tuple(
    f"brain.ingestion.v1.{name}"
    for name in (
        "FileService/GetFile",
        "FileService/ListFiles",
        "CollectionService/GetCollection",
        "CollectionService/ListCollections",
        "DocumentService/GetDocument",
        "DocumentService/ListDocuments",
        "DocumentService/GetDocumentText",
        "DocumentService/GetDeletion",
        "FileBatchService/GetFileBatch",
    )
)
# A large file over a slow line.
_TRANSFER_TIMEOUT_S: Final = 600.0
# What the room takes in one message; larger pieces are cut.
_PIECE_BYTES: Final = 1024 * 1024


class GrpcIngestion:
    """Files, collections, documents and batches.

    Args:
        channel: To the ingestion room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._files = FileServiceStub(channel)
        self._collections = CollectionServiceStub(channel)
        self._documents = DocumentServiceStub(channel)
        self._batches = FileBatchServiceStub(channel)

    async def upload_file(
        self, *, filename: str, purpose: str, expires_after_s: int, data: AsyncIterable[bytes]
    ) -> StoredFile:
        """Keep a file."""
        sent = _Sent(data)

        async def parts() -> AsyncIterator[file_pb2.UploadFileRequest]:
            header = file_pb2.UploadFileHeader(filename=filename, purpose=purpose, expires_after_s=expires_after_s)
            yield file_pb2.UploadFileRequest(header=header)
            async for piece in sent.pieces():
                yield file_pb2.UploadFileRequest(data=piece)

        with sent.told(), remote(_ROOM, "UploadFile") as metadata:
            answer = await self._files.UploadFile(parts(), timeout=_TRANSFER_TIMEOUT_S, metadata=metadata)
        return words.file(answer.file)

    async def get_file(self, file_id: str) -> StoredFile:
        """Return a file's record."""
        request = file_pb2.GetFileRequest(file_id=file_id)
        with remote(_ROOM, "GetFile") as metadata:
            return words.file((await self._files.GetFile(request, timeout=READ_TIMEOUT_S, metadata=metadata)).file)

    async def list_files(self, *, purpose: str, paging: Paging) -> Page[StoredFile]:
        """Return the caller's files."""
        request = file_pb2.ListFilesRequest(
            purpose=purpose, limit=paging.limit, after=paging.after, ascending=paging.ascending
        )
        with remote(_ROOM, "ListFiles") as metadata:
            answer = await self._files.ListFiles(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.file(one) for one in answer.files), answer.has_more)

    async def download_file(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes."""
        request = file_pb2.DownloadFileRequest(file_id=file_id)
        with remote(_ROOM, "DownloadFile") as metadata:
            stream = self._files.DownloadFile(request, timeout=_TRANSFER_TIMEOUT_S, metadata=metadata)
            try:
                async for piece in stream:
                    yield piece.data
            finally:
                stream.cancel()

    async def delete_file(self, file_id: str) -> Sequence[str]:
        """Delete a file and return the documents that went with it."""
        request = file_pb2.DeleteFileRequest(file_id=file_id)
        with remote(_ROOM, "DeleteFile") as metadata:
            answer = await self._files.DeleteFile(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return list(answer.document_ids)

    async def create_collection(
        self,
        *,
        name: str,
        metadata: Mapping[str, str],
        default_principals: Sequence[str],
        chunking: Chunking | None,
        expires_after_days: int,
    ) -> Collection:
        """Make an empty collection."""
        request = collection_pb2.CreateCollectionRequest(
            name=name,
            metadata=dict(metadata),
            default_principals=default_principals,
            chunking=words.chunking_to(chunking),
            expires_after_days=expires_after_days,
        )
        with remote(_ROOM, "CreateCollection") as headers:
            answer = await self._collections.CreateCollection(request, timeout=READ_TIMEOUT_S, metadata=headers)
        return words.collection(answer.collection)

    async def get_collection(self, collection_id: str) -> Collection:
        """Return a collection with its counts."""
        request = collection_pb2.GetCollectionRequest(collection_id=collection_id)
        with remote(_ROOM, "GetCollection") as metadata:
            answer = await self._collections.GetCollection(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.collection(answer.collection)

    async def list_collections(self, paging: Paging, *, name: str = "") -> Page[Collection]:
        """Return the tenant's collections."""
        request = collection_pb2.ListCollectionsRequest(
            limit=paging.limit, after=paging.after, before=paging.before, ascending=paging.ascending, name=name
        )
        with remote(_ROOM, "ListCollections") as metadata:
            answer = await self._collections.ListCollections(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.collection(one) for one in answer.collections), answer.has_more)

    async def update_collection(self, collection_id: str, changes: CollectionChanges) -> Collection:
        """Change a collection."""
        request = collection_pb2.UpdateCollectionRequest(
            collection_id=collection_id,
            name=changes.name,
            metadata=dict(changes.metadata or {}),
            replace_metadata=changes.metadata is not None,
            default_principals=changes.default_principals or (),
            replace_default_principals=changes.default_principals is not None,
            expires_after_days=changes.expires_after_days,
        )
        with remote(_ROOM, "UpdateCollection") as metadata:
            answer = await self._collections.UpdateCollection(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.collection(answer.collection)

    async def delete_collection(self, collection_id: str) -> Sequence[str]:
        """Delete a collection and return the documents that go with it."""
        request = collection_pb2.DeleteCollectionRequest(collection_id=collection_id)
        with remote(_ROOM, "DeleteCollection") as metadata:
            answer = await self._collections.DeleteCollection(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return list(answer.document_ids)

    async def upload_document(self, new: NewDocument, data: AsyncIterable[bytes]) -> tuple[Document, bool]:
        """Keep a document; return it and whether the same bytes were there already."""
        sent = _Sent(data)

        async def parts() -> AsyncIterator[document_pb2.UploadDocumentRequest]:
            yield document_pb2.UploadDocumentRequest(
                header=document_pb2.UploadDocumentHeader(
                    collection_id=new.collection_id,
                    filename=new.filename,
                    key=new.key,
                    principals=new.principals or (),
                    has_access=new.principals is not None,
                    attributes_json=new.attributes_json,
                    chunking=words.chunking_to(new.chunking),
                )
            )
            async for piece in sent.pieces():
                yield document_pb2.UploadDocumentRequest(data=piece)

        with sent.told(), remote(_ROOM, "UploadDocument") as metadata:
            answer = await self._documents.UploadDocument(parts(), timeout=_TRANSFER_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document), answer.unchanged

    async def add_file(
        self,
        *,
        collection_id: str,
        file_id: str,
        attributes_json: str,
        chunking: Chunking | None,
        principals: Sequence[str] | None = None,
    ) -> tuple[Document, bool]:
        """Make a document of a kept file; return it and whether it was there already."""
        request = document_pb2.AddFileRequest(
            collection_id=collection_id,
            file_id=file_id,
            attributes_json=attributes_json,
            chunking=words.chunking_to(chunking),
            principals=principals or (),
            has_access=principals is not None,
        )
        with remote(_ROOM, "AddFile") as metadata:
            answer = await self._documents.AddFile(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document), answer.unchanged

    async def get_document(self, document_id: str) -> Document:
        """Return a document by id."""
        return await self._get(document_pb2.GetDocumentRequest(document_id=document_id))

    async def get_document_of_file(self, collection_id: str, file_id: str) -> Document:
        """Return the document that a file is in a collection."""
        name = document_pb2.FileInCollection(collection_id=collection_id, file_id=file_id)
        return await self._get(document_pb2.GetDocumentRequest(file=name))

    async def _get(self, request: document_pb2.GetDocumentRequest) -> Document:
        with remote(_ROOM, "GetDocument") as metadata:
            answer = await self._documents.GetDocument(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document)

    async def list_documents(
        self,
        collection_id: str,
        paging: Paging,
        *,
        states: Sequence[DocumentState] = (),
        file_ids: Sequence[str] = (),
        key_prefix: str = "",
        name_contains: str = "",
    ) -> Page[Document]:
        """Return the documents of a collection that the caller may see."""
        request = document_pb2.ListDocumentsRequest(
            collection_id=collection_id,
            states=[words.STATE_NUMBER[state] for state in states],
            limit=paging.limit,
            after=paging.after,
            before=paging.before,
            ascending=paging.ascending,
            file_ids=file_ids,
            key_prefix=key_prefix,
            name_contains=name_contains,
        )
        with remote(_ROOM, "ListDocuments") as metadata:
            answer = await self._documents.ListDocuments(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.document(one) for one in answer.documents), answer.has_more)

    async def update_document(self, document_id: str, attributes_json: str) -> Document:
        """Replace a document's attributes."""
        request = document_pb2.UpdateDocumentRequest(document_id=document_id, attributes_json=attributes_json)
        with remote(_ROOM, "UpdateDocument") as metadata:
            answer = await self._documents.UpdateDocument(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document)

    async def set_access(self, document_id: str, principals: Sequence[str]) -> Document:
        """Replace a document's access list."""
        request = document_pb2.SetAccessRequest(document_id=document_id, principals=principals)
        with remote(_ROOM, "SetAccess") as metadata:
            answer = await self._documents.SetAccess(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document)

    async def get_document_text(self, document_id: str, version: int = 0) -> DocumentText:
        """Return the stored text of a version."""
        request = document_pb2.GetDocumentTextRequest(document_id=document_id, version=version)
        with remote(_ROOM, "GetDocumentText") as metadata:
            answer = await self._documents.GetDocumentText(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        sections = tuple(TextSection(one.start, one.end, locator(one.locator)) for one in answer.sections)
        return DocumentText(answer.document_id, answer.version, answer.text, sections)

    async def delete_document(self, document_id: str) -> Deletion:
        """Withhold a document at once and begin to remove it."""
        request = document_pb2.DeleteDocumentRequest(document_id=document_id)
        with remote(_ROOM, "DeleteDocument") as metadata:
            answer = await self._documents.DeleteDocument(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return words.deletion(answer.deletion)

    async def get_deletion(self, document_id: str) -> Deletion:
        """Return the receipt of a deletion."""
        request = document_pb2.GetDeletionRequest(document_id=document_id)
        with remote(_ROOM, "GetDeletion") as metadata:
            answer = await self._documents.GetDeletion(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.deletion(answer.deletion)

    async def cancel_document(self, document_id: str) -> Document:
        """End the work on a document that is not searchable yet."""
        request = document_pb2.CancelDocumentRequest(document_id=document_id)
        with remote(_ROOM, "CancelDocument") as metadata:
            answer = await self._documents.CancelDocument(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.document(answer.document)

    async def create_batch(self, collection_id: str, items: Sequence[BatchItem]) -> Batch:
        """Add files to a collection together."""
        files = [
            batch_pb2.BatchFile(
                file_id=one.file_id, attributes_json=one.attributes_json, chunking=words.chunking_to(one.chunking)
            )
            for one in items
        ]
        request = batch_pb2.CreateFileBatchRequest(collection_id=collection_id, files=files)
        with remote(_ROOM, "CreateFileBatch") as metadata:
            answer = await self._batches.CreateFileBatch(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return words.batch(answer.batch)

    async def get_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Return a batch with its counts."""
        request = batch_pb2.GetFileBatchRequest(collection_id=collection_id, batch_id=batch_id)
        with remote(_ROOM, "GetFileBatch") as metadata:
            answer = await self._batches.GetFileBatch(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.batch(answer.batch)

    async def cancel_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Cancel what is not searchable yet."""
        request = batch_pb2.CancelFileBatchRequest(collection_id=collection_id, batch_id=batch_id)
        with remote(_ROOM, "CancelFileBatch") as metadata:
            answer = await self._batches.CancelFileBatch(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return words.batch(answer.batch)


class _Sent:
    """What a caller sends, in pieces that the room takes.

    When the caller sends too much, too slowly or no more, grpc only sees that there is no next message: it cancels the
    call, and with it whoever waits for its answer. What really happened is kept here, and told.
    """

    def __init__(self, data: AsyncIterable[bytes]) -> None:
        self._data = data
        self._failed: BrainError | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        try:
            async for chunk in self._data:
                for start in range(0, len(chunk), _PIECE_BYTES):
                    yield chunk[start : start + _PIECE_BYTES]
        except BrainError as error:
            self._failed = error
            raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise what the sending broke with instead of the cancellation that it led to."""
        try:
            yield
        except asyncio.CancelledError as error:
            if self._failed is None:
                raise
            raise self._failed from error
