"""`/v1/files`: kept by the ingestion room; a large one passes through a file on disk, never through memory."""

from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile

from gateway.api.call import Call
from gateway.api.openai.requests import FilesQuery
from gateway.api.reach import reached
from gateway.api.replies import Reply, Stream, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import Paging, StoredFile
from gateway.ports import Ingestion
from gateway.usecases.withholding import Withholding
from services.chassis.errors import InvalidInput

__all__ = ["FileRoutes"]

_PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_READ_BYTES: Final = 512 * 1024
# OpenAI's bounds: an hour and thirty days.
_EXPIRY_S: Final = (3600, 2_592_000)


class FileRoutes:
    """Keeps files.

    Args:
        ingestion: The ingestion room.
        withholding: Takes files away, with what was learned from them.
    """

    def __init__(self, *, ingestion: Ingestion, withholding: Withholding) -> None:
        self._ingestion = ingestion
        self._withholding = withholding

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/v1/files", self.create, "Upload a file", body=Body.FORM, creates=True),
            Route("GET", "/v1/files", self.list, "List files", query=FilesQuery),
            Route("GET", "/v1/files/{file_id}", self.get, "Describe a file"),
            Route(
                "GET",
                "/v1/files/{file_id}/content",
                self.content,
                "Return a file's bytes",
                answer="application/octet-stream",
            ),
            Route("DELETE", "/v1/files/{file_id}", self.delete, "Delete a file and every document made from it"),
        ]

    async def create(self, call: Call) -> Reply:
        """Keep an uploaded file."""
        form = await call.form()
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidInput("file: this field is required, as a file of the form.", param="file")
        if not file.filename:
            raise InvalidInput("file: the file has no name.", param="file")
        purpose = form.get("purpose")
        if purpose not in _PURPOSES:
            raise InvalidInput(f"purpose: {purpose!r} is not one of {', '.join(_PURPOSES)}.", param="purpose")
        stored = await self._ingestion.upload_file(
            filename=file.filename, purpose=str(purpose), expires_after_s=_expiry(form), data=_read(file)
        )
        call.touched(stored.id)
        return json_reply(_view(stored))

    async def list(self, call: Call) -> Reply:
        """List the caller's files."""
        query = call.query(FilesQuery)
        paging = Paging(query.limit, query.after, ascending=query.order == "asc")
        page = await self._ingestion.list_files(purpose=query.purpose, paging=paging)
        data = [_view(one) for one in page.items]
        return json_reply(
            {
                "object": "list",
                "data": data,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
                "has_more": page.has_more,
            }
        )

    async def get(self, call: Call) -> Reply:
        """Describe a file."""
        return json_reply(_view(await self._ingestion.get_file(call.path["file_id"])))

    async def content(self, call: Call) -> Stream:
        """Return a file's bytes as they are, to be saved and never shown by a browser."""
        file = await self._ingestion.get_file(call.path["file_id"])
        return Stream(
            self._ingestion.download_file(file.id),
            media_type="application/octet-stream",
            headers=[
                (b"content-length", str(file.size_bytes).encode()),
                (b"content-disposition", b"attachment"),
                (b"x-content-type-options", b"nosniff"),
            ],
        )

    async def delete(self, call: Call) -> Reply:
        """Delete a file."""
        file_id = call.path["file_id"]
        documents, reach = await self._withholding.delete_file(file_id)
        answer = {"id": file_id, "object": "file", "deleted": True, "documents": list(documents)}
        return json_reply(answer | reached(reach))


def _expiry(form: FormData) -> int:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return 0
    if anchor != "created_at":
        raise InvalidInput(
            f"expires_after[anchor]: {anchor!r} is not allowed; use 'created_at'.", param="expires_after[anchor]"
        )
    low, high = _EXPIRY_S
    if not (isinstance(seconds, str) and seconds.isdigit() and low <= int(seconds) <= high):
        raise InvalidInput(
            f"expires_after[seconds]: {seconds!r} is not allowed; give {low} to {high}.", param="expires_after[seconds]"
        )
    return int(seconds)


async def _read(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_READ_BYTES):
        yield piece


def _view(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
