"""The ingestion room: training files, and the documents that rows are made of."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from typing import Final

import grpc

from brain.ingestion.v1 import document_pb2, document_pb2_grpc, file_pb2, file_pb2_grpc
from services.chassis.errors import NotFound
from services.chassis.rpc.client import remote
from services.finetuning.domain.documents import DocumentText, Section, SourceDocument
from services.finetuning.ports.files import FINE_TUNE, StoredFile
from services.layout.turns import Locator

IDEMPOTENT = (
    "brain.ingestion.v1.FileService/GetFile",
    "brain.ingestion.v1.FileService/DeleteFile",
    "brain.ingestion.v1.DocumentService/ListDocuments",
    "brain.ingestion.v1.DocumentService/GetDocument",
    "brain.ingestion.v1.DocumentService/GetDocumentText",
)
"""Methods that may be tried again: the second time changes nothing."""

Token = Callable[[], str]
"""Gives the token of a call: of a worker that acts for somebody longer than a token is good for."""

_ROOM: Final = "ingestion"
_PAGE: Final = 1_000
# What one message of an upload may hold.
_PIECE: Final = 1 << 20


class RemoteFiles:
    """Files over gRPC.

    Args:
        channel: Channel to the ingestion room; the caller closes it.
        timeout_s: Longest wait for a record.
        transfer_timeout_s: Longest wait for the bytes of a file.
        token: Gives the token of each call; None takes that of the request being served.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, timeout_s: float, transfer_timeout_s: float, token: Token | None = None
    ) -> None:
        self._stub = file_pb2_grpc.FileServiceStub(channel)
        self._timeout_s = timeout_s
        self._transfer_timeout_s = transfer_timeout_s
        self._token = token

    async def about(self, file_id: str) -> StoredFile:
        """Return a file's record."""
        with remote(_ROOM, "GetFile", token=_of(self._token)) as metadata:
            answer = await self._stub.GetFile(
                file_pb2.GetFileRequest(file_id=file_id), timeout=self._timeout_s, metadata=metadata
            )
        return _stored(answer.file)

    async def download(self, file_id: str) -> AsyncIterator[bytes]:
        """Stream a file's bytes; leaving early ends the call."""
        with remote(_ROOM, "DownloadFile", token=_of(self._token)) as metadata:
            call = self._stub.DownloadFile(
                file_pb2.DownloadFileRequest(file_id=file_id), timeout=self._transfer_timeout_s, metadata=metadata
            )
            try:
                async for part in call:
                    yield part.data
            finally:
                # No effect on a call that has ended.
                call.cancel()

    async def upload(self, filename: str, pieces: Iterable[bytes], *, purpose: str = FINE_TUNE) -> StoredFile:
        """Keep bytes as a file that the caller owns."""
        with remote(_ROOM, "UploadFile", token=_of(self._token)) as metadata:
            answer = await self._stub.UploadFile(
                _parts(filename, pieces, purpose), timeout=self._transfer_timeout_s, metadata=metadata
            )
        return _stored(answer.file)

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone is deleted."""
        try:
            with remote(_ROOM, "DeleteFile", token=_of(self._token)) as metadata:
                await self._stub.DeleteFile(
                    file_pb2.DeleteFileRequest(file_id=file_id), timeout=self._timeout_s, metadata=metadata
                )
        except NotFound:
            return


class RemoteDocuments:
    """Documents over gRPC, as far as the caller may read them.

    Args:
        channel: Channel to the ingestion room; the caller closes it.
        timeout_s: Longest wait for an answer.
        token: Gives the token of each call; None takes that of the request being served.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float, token: Token | None = None) -> None:
        self._stub = document_pb2_grpc.DocumentServiceStub(channel)
        self._timeout_s = timeout_s
        self._token = token

    async def of_collection(self, collection_id: str) -> AsyncIterator[SourceDocument]:
        """Yield the documents of a collection that have a searchable version, oldest first."""
        after = ""
        while True:
            request = document_pb2.ListDocumentsRequest(
                collection_id=collection_id, limit=_PAGE, after=after, ascending=True
            )
            with remote(_ROOM, "ListDocuments", token=_of(self._token)) as metadata:
                page = await self._stub.ListDocuments(request, timeout=self._timeout_s, metadata=metadata)
            for document in page.documents:
                # A newer version may still be read; what is searchable is what chat answers from.
                if document.active_version:
                    yield _document(document)
            if not page.has_more or not page.documents:
                return
            after = page.documents[-1].document_id

    async def text(self, document: SourceDocument) -> DocumentText | None:
        """Return the stored text of a version; None when it is gone or may not be read any more."""
        request = document_pb2.GetDocumentTextRequest(document_id=document.document_id, version=document.version)
        try:
            with remote(_ROOM, "GetDocumentText", token=_of(self._token)) as metadata:
                answer = await self._stub.GetDocumentText(request, timeout=self._timeout_s, metadata=metadata)
        except NotFound:
            return None
        return DocumentText(document, answer.text, tuple(map(_section, answer.sections)))

    async def readable(self, document_ids: Collection[str]) -> frozenset[str]:
        """Return those that are there and that the caller may read."""
        found = set()
        for document_id in sorted(document_ids):
            request = document_pb2.GetDocumentRequest(document_id=document_id)
            try:
                with remote(_ROOM, "GetDocument", token=_of(self._token)) as metadata:
                    await self._stub.GetDocument(request, timeout=self._timeout_s, metadata=metadata)
            except NotFound:
                continue
            found.add(document_id)
        return frozenset(found)


def _of(token: Token | None) -> str | None:
    return token() if token else None


def _stored(file: file_pb2.File) -> StoredFile:
    return StoredFile(file.file_id, file.filename, file.purpose, file.size_bytes, file.digest)


def _document(document: document_pb2.Document) -> SourceDocument:
    return SourceDocument(
        document_id=document.document_id,
        version=document.active_version,
        collection_id=document.collection_id,
        title=document.title,
        filename=document.filename,
        key=document.key,
    )


def _section(section: document_pb2.TextSection) -> Section:
    place = section.locator
    return Section(
        section.start, section.end, Locator(place.page_first, place.page_last, tuple(place.heading_path), place.part)
    )


def _parts(filename: str, pieces: Iterable[bytes], purpose: str) -> Iterator[file_pb2.UploadFileRequest]:
    """Yield the messages of an upload: the header, then the bytes in messages that are neither small nor too large."""
    yield file_pb2.UploadFileRequest(header=file_pb2.UploadFileHeader(filename=filename, purpose=purpose))
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) >= _PIECE:
            yield file_pb2.UploadFileRequest(data=bytes(pending[:_PIECE]))
            del pending[:_PIECE]
    if pending:
        yield file_pb2.UploadFileRequest(data=bytes(pending))
