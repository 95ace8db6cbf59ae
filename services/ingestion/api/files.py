"""FileService."""

from collections.abc import AsyncIterator

from brain.ingestion.v1 import file_pb2
from services.chassis.auth import current_caller
from services.ingestion.api.wire import PART_BYTES, file_message, header_and_parts
from services.ingestion.usecases.files import Files, UploadFileHeader, page_of

__all__ = ["FileServicer"]


class FileServicer:
    """Files over gRPC."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def UploadFile(
        self, request: AsyncIterator[file_pb2.UploadFileRequest], context: object
    ) -> file_pb2.UploadFileResponse:
        """Keep a file."""
        first, parts = await header_and_parts(request)
        header = first.header
        wanted = UploadFileHeader(header.filename, header.purpose, header.expires_after_s)
        file = await self._files.upload(current_caller(), wanted, parts)
        return file_pb2.UploadFileResponse(file=file_message(file))

    async def GetFile(self, request: file_pb2.GetFileRequest, context: object) -> file_pb2.GetFileResponse:
        """Return a file's record."""
        file = await self._files.get(current_caller(), request.file_id)
        return file_pb2.GetFileResponse(file=file_message(file))

    async def ListFiles(self, request: file_pb2.ListFilesRequest, context: object) -> file_pb2.ListFilesResponse:
        """Return a page of files."""
        page = page_of(
            limit=request.limit, default=100, largest=10_000, after=request.after, ascending=request.ascending
        )
        files, has_more = await self._files.list(current_caller(), page, purpose=request.purpose)
        return file_pb2.ListFilesResponse(files=[file_message(file) for file in files], has_more=has_more)

    async def DownloadFile(
        self, request: file_pb2.DownloadFileRequest, context: object
    ) -> AsyncIterator[file_pb2.DownloadFileResponse]:
        """Stream a file's bytes."""
        async for part in await self._files.download(current_caller(), request.file_id):
            for start in range(0, len(part), PART_BYTES):
                yield file_pb2.DownloadFileResponse(data=part[start : start + PART_BYTES])

    async def DeleteFile(self, request: file_pb2.DeleteFileRequest, context: object) -> file_pb2.DeleteFileResponse:
        """Remove a file and every document made of it."""
        documents = await self._files.delete(current_caller(), request.file_id)
        return file_pb2.DeleteFileResponse(file_id=request.file_id, document_ids=documents)
