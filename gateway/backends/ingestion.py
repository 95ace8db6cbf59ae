"""The ingestion room over gRPC."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Final

import grpc

from brain.ingestion.v1 import batch_pb2, collection_pb2, document_pb2, file_pb2
from brain.ingestion.v1.batch_pb2_grpc import FileBatchServiceStub
from brain.ingestion.v1.collection_pb2_grpc import CollectionServiceStub
from brain.ingestion.v1.document_pb2_grpc import DocumentServiceStub
from brain.ingestion.v1.file_pb2_grpc import FileServiceStub
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S, locator, moment, moment_or_none
from gateway.domain.keeping import (
    Batch,
    BatchItem,
    Chunking,
    Collection,
    CollectionChanges,
    Counts,
    Deletion,
    Document,
    DocumentState,
    DocumentText,
    NewDocument,
    Page,
    Paging,
    StoreCount,
    StoredFile,
    TextSection,
)
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
_STATE: Final = {
    document_pb2.DOCUMENT_STATE_UNSPECIFIED: DocumentState.RECEIVED,
    document_pb2.DOCUMENT_STATE_RECEIVED: DocumentState.RECEIVED,
    document_pb2.DOCUMENT_STATE_PARSING: DocumentState.PARSING,
    document_pb2.DOCUMENT_STATE_CHUNKED: DocumentState.CHUNKED,
    document_pb2.DOCUMENT_STATE_INDEXED: DocumentState.INDEXED,
    document_pb2.DOCUMENT_STATE_FAILED: DocumentState.FAILED,
    document_pb2.DOCUMENT_STATE_CANCELLED: DocumentState.CANCELLED,
    document_pb2.DOCUMENT_STATE_DELETING: DocumentState.DELETING,
}
_STATE_NUMBER: Final = {state: number for number, state in _STATE.items()}


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

        async def parts() -> AsyncIterator[file_pb2.UploadFileRequest]:
            header = file_pb2.UploadFileHeader(filename=filename, purpose=purpose, expires_after_s=expires_after_s)
            yield file_pb2.UploadFileRequest(header=header)
            async for piece in _pieces(data):
                yield file_pb2.UploadFileRequest(data=piece)

        with remote(_ROOM, "UploadFile") as metadata:
            answer = await self._files.UploadFile(parts(), timeout=_TRANSFER_TIMEOUT_S, metadata=metadata)
        return _file(answer.file)

    async def get_file(self, file_id: str) -> StoredFile:
        """Return a file's record."""
        request = file_pb2.GetFileRequest(file_id=file_id)
        with remote(_ROOM, "GetFile") as metadata:
            return _file((await self._files.GetFile(request, timeout=READ_TIMEOUT_S, metadata=metadata)).file)

    async def list_files(self, *, purpose: str, paging: Paging) -> Page[StoredFile]:
        """Return the caller's files."""
        request = file_pb2.ListFilesRequest(
            purpose=purpose, limit=paging.limit, after=paging.after, ascending=paging.ascending
        )
        with remote(_ROOM, "ListFiles") as metadata:
            answer = await self._files.ListFiles(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(_file(one) for one in answer.files), answer.has_more)

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
            chunking=_cut(chunking),
            expires_after_days=expires_after_days,
        )
        with remote(_ROOM, "CreateCollection") as headers:
            answer = await self._collections.CreateCollection(request, timeout=READ_TIMEOUT_S, metadata=headers)
        return _collection(answer.collection)

    async def get_collection(self, collection_id: str) -> Collection:
        """Return a collection with its counts."""
        request = collection_pb2.GetCollectionRequest(collection_id=collection_id)
        with remote(_ROOM, "GetCollection") as metadata:
            answer = await self._collections.GetCollection(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _collection(answer.collection)

    async def list_collections(self, paging: Paging, *, name: str = "") -> Page[Collection]:
        """Return the tenant's collections."""
        request = collection_pb2.ListCollectionsRequest(
            limit=paging.limit, after=paging.after, before=paging.before, ascending=paging.ascending, name=name
        )
        with remote(_ROOM, "ListCollections") as metadata:
            answer = await self._collections.ListCollections(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(_collection(one) for one in answer.collections), answer.has_more)

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
        return _collection(answer.collection)

    async def delete_collection(self, collection_id: str) -> int:
        """Delete a collection and return how many documents go with it."""
        request = collection_pb2.DeleteCollectionRequest(collection_id=collection_id)
        with remote(_ROOM, "DeleteCollection") as metadata:
            answer = await self._collections.DeleteCollection(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return int(answer.document_count)

    async def upload_document(self, new: NewDocument, data: AsyncIterable[bytes]) -> tuple[Document, bool]:
        """Keep a document; return it and whether the same bytes were there already."""

        async def parts() -> AsyncIterator[document_pb2.UploadDocumentRequest]:
            yield document_pb2.UploadDocumentRequest(
                header=document_pb2.UploadDocumentHeader(
                    collection_id=new.collection_id,
                    filename=new.filename,
                    key=new.key,
                    principals=new.principals or (),
                    has_access=new.principals is not None,
                    attributes_json=new.attributes_json,
                    chunking=_cut(new.chunking),
                )
            )
            async for piece in _pieces(data):
                yield document_pb2.UploadDocumentRequest(data=piece)

        with remote(_ROOM, "UploadDocument") as metadata:
            answer = await self._documents.UploadDocument(parts(), timeout=_TRANSFER_TIMEOUT_S, metadata=metadata)
        return _document(answer.document), answer.unchanged

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
            chunking=_cut(chunking),
            principals=principals or (),
            has_access=principals is not None,
        )
        with remote(_ROOM, "AddFile") as metadata:
            answer = await self._documents.AddFile(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _document(answer.document), answer.unchanged

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
        return _document(answer.document)

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
            states=[_STATE_NUMBER[state] for state in states],
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
        return Page(tuple(_document(one) for one in answer.documents), answer.has_more)

    async def update_document(self, document_id: str, attributes_json: str) -> Document:
        """Replace a document's attributes."""
        request = document_pb2.UpdateDocumentRequest(document_id=document_id, attributes_json=attributes_json)
        with remote(_ROOM, "UpdateDocument") as metadata:
            answer = await self._documents.UpdateDocument(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _document(answer.document)

    async def set_access(self, document_id: str, principals: Sequence[str]) -> Document:
        """Replace a document's access list."""
        request = document_pb2.SetAccessRequest(document_id=document_id, principals=principals)
        with remote(_ROOM, "SetAccess") as metadata:
            answer = await self._documents.SetAccess(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _document(answer.document)

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
        return _deletion(answer.deletion)

    async def get_deletion(self, document_id: str) -> Deletion:
        """Return the receipt of a deletion."""
        request = document_pb2.GetDeletionRequest(document_id=document_id)
        with remote(_ROOM, "GetDeletion") as metadata:
            answer = await self._documents.GetDeletion(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _deletion(answer.deletion)

    async def cancel_document(self, document_id: str) -> Document:
        """End the work on a document that is not searchable yet."""
        request = document_pb2.CancelDocumentRequest(document_id=document_id)
        with remote(_ROOM, "CancelDocument") as metadata:
            answer = await self._documents.CancelDocument(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _document(answer.document)

    async def create_batch(self, collection_id: str, items: Sequence[BatchItem]) -> Batch:
        """Add files to a collection together."""
        files = [
            batch_pb2.BatchFile(file_id=one.file_id, attributes_json=one.attributes_json, chunking=_cut(one.chunking))
            for one in items
        ]
        request = batch_pb2.CreateFileBatchRequest(collection_id=collection_id, files=files)
        with remote(_ROOM, "CreateFileBatch") as metadata:
            answer = await self._batches.CreateFileBatch(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return _batch(answer.batch)

    async def get_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Return a batch with its counts."""
        request = batch_pb2.GetFileBatchRequest(collection_id=collection_id, batch_id=batch_id)
        with remote(_ROOM, "GetFileBatch") as metadata:
            answer = await self._batches.GetFileBatch(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _batch(answer.batch)

    async def cancel_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Cancel what is not searchable yet."""
        request = batch_pb2.CancelFileBatchRequest(collection_id=collection_id, batch_id=batch_id)
        with remote(_ROOM, "CancelFileBatch") as metadata:
            answer = await self._batches.CancelFileBatch(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return _batch(answer.batch)


async def _pieces(data: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in data:
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]


def _cut(chunking: Chunking | None) -> collection_pb2.Chunking | None:
    if chunking is None:
        return None
    return collection_pb2.Chunking(max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)


def _chunking(value: collection_pb2.Chunking) -> Chunking:
    return Chunking(value.max_tokens, value.overlap_tokens)


def _counts(value: collection_pb2.DocumentCounts) -> Counts:
    return Counts(value.in_progress, value.indexed, value.failed, value.cancelled)


def _file(value: file_pb2.File) -> StoredFile:
    return StoredFile(
        id=value.file_id,
        filename=value.filename,
        purpose=value.purpose,
        size_bytes=value.size_bytes,
        digest=value.digest,
        created_at=moment(value.created_at),
        expires_at=moment_or_none(value.expires_at),
        media_type=value.media_type,
    )


def _collection(value: collection_pb2.Collection) -> Collection:
    return Collection(
        id=value.collection_id,
        name=value.name,
        owner=value.owner,
        created_at=moment(value.created_at),
        last_active_at=moment(value.last_active_at),
        metadata=dict(value.metadata),
        default_principals=tuple(value.default_principals),
        chunking=_chunking(value.chunking),
        expires_after_days=value.expires_after_days,
        counts=_counts(value.counts),
        usage_bytes=value.usage_bytes,
    )


def _document(value: document_pb2.Document) -> Document:
    return Document(
        id=value.document_id,
        collection_id=value.collection_id,
        key=value.key,
        file_id=value.file_id,
        filename=value.filename,
        title=value.title,
        version=value.version,
        active_version=value.active_version,
        state=_STATE[value.state],
        failure_code=value.failure_code,
        failure_reason=value.failure_reason,
        digest=value.digest,
        size_bytes=value.size_bytes,
        media_type=value.media_type,
        owner=value.owner,
        principals=tuple(value.principals),
        attributes_json=value.attributes_json,
        chunking=_chunking(value.chunking),
        chunk_count=value.chunk_count,
        created_at=moment(value.created_at),
        updated_at=moment(value.updated_at),
        warnings=tuple(value.warnings),
    )


def _deletion(value: document_pb2.Deletion) -> Deletion:
    return Deletion(
        value.document_id,
        moment(value.withheld_at),
        moment_or_none(value.completed_at),
        tuple(StoreCount(one.store, one.removed, one.remaining, one.counted) for one in value.stores),
    )


def _batch(value: batch_pb2.FileBatch) -> Batch:
    return Batch(
        id=value.batch_id,
        collection_id=value.collection_id,
        created_at=moment(value.created_at),
        counts=_counts(value.counts),
        cancelled=value.cancelled,
        file_ids=tuple(value.file_ids),
    )
