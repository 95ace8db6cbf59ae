"""`/v1/vector_stores/{id}/files` and `/file_batches`: files in collections."""

import json
from typing import Any, Final

from gateway.api.call import Call
from gateway.api.openai.requests import AttributesBody, BatchBody, StoreFileBody, StoreFilesQuery
from gateway.api.openai.views import STATES, batch, chunking, listed, store_file
from gateway.api.reach import reached
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import BatchItem, Page, Paging
from gateway.ports import Ingestion
from gateway.usecases.withholding import Withholding
from services.chassis.errors import InvalidInput

__all__ = ["StoreFileRoutes"]

_FILES: Final = "/v1/vector_stores/{store_id}/files"
_FILE: Final = f"{_FILES}/{{file_id}}"
_BATCHES: Final = "/v1/vector_stores/{store_id}/file_batches"
_BATCH: Final = f"{_BATCHES}/{{batch_id}}"


class StoreFileRoutes:
    """Adds files to vector stores, and takes them out.

    Args:
        ingestion: The ingestion room.
        withholding: Takes documents away, with what was learned from them.
    """

    def __init__(self, *, ingestion: Ingestion, withholding: Withholding) -> None:
        self._ingestion = ingestion
        self._withholding = withholding

    def routes(self) -> list[Route]:
        """Return the routes."""
        body = Body.JSON
        query = StoreFilesQuery
        return [
            Route("POST", _FILES, self.add, "Add a file", body=body, request=StoreFileBody, creates=True),
            Route("GET", _FILES, self.list, "List the files of a vector store", query=query),
            Route("GET", _FILE, self.get, "Describe a file of a vector store"),
            Route("POST", _FILE, self.update, "Replace a file's attributes", body=body, request=AttributesBody),
            Route("DELETE", _FILE, self.remove, "Take a file out of a vector store"),
            Route("GET", f"{_FILE}/content", self.content, "Return the text that was read from a file"),
            Route("POST", _BATCHES, self.add_batch, "Add files together", body=body, request=BatchBody, creates=True),
            Route("GET", _BATCH, self.get_batch, "Describe a batch"),
            Route("POST", f"{_BATCH}/cancel", self.cancel_batch, "Cancel what is not searchable yet"),
            Route("GET", f"{_BATCH}/files", self.list_batch, "List the files of a batch", query=query),
        ]

    async def add(self, call: Call) -> Reply:
        """Add a kept file to a vector store."""
        body = await call.parse(StoreFileBody)
        document, _ = await self._ingestion.add_file(
            collection_id=call.path["store_id"],
            file_id=body.file_id,
            attributes_json=_attributes(body.attributes),
            chunking=chunking(body.chunking_strategy),
        )
        call.touched(f"{call.path['store_id']}/{body.file_id}")
        return json_reply(store_file(document))

    async def list(self, call: Call) -> Reply:
        """List the files of a vector store."""
        return json_reply(await self._listed(call, ()))

    async def get(self, call: Call) -> Reply:
        """Describe a file of a vector store."""
        found = await self._ingestion.get_document_of_file(call.path["store_id"], call.path["file_id"])
        return json_reply(store_file(found))

    async def update(self, call: Call) -> Reply:
        """Replace a file's attributes."""
        body = await call.parse(AttributesBody)
        found = await self._ingestion.get_document_of_file(call.path["store_id"], call.path["file_id"])
        changed = await self._ingestion.update_document(found.id, _attributes(body.attributes))
        call.touched(found.id)
        return json_reply(store_file(changed))

    async def remove(self, call: Call) -> Reply:
        """Take a file out of a vector store; the file itself stays."""
        found = await self._ingestion.get_document_of_file(call.path["store_id"], call.path["file_id"])
        _, reach = await self._withholding.delete_document(found.id)
        call.touched(found.id)
        answer = {"id": call.path["file_id"], "object": "vector_store.file.deleted", "deleted": True}
        return json_reply(answer | reached(reach))

    async def content(self, call: Call) -> Reply:
        """Return the text that was read from a file."""
        found = await self._ingestion.get_document_of_file(call.path["store_id"], call.path["file_id"])
        text = await self._ingestion.get_document_text(found.id)
        return json_reply(
            {
                "object": "vector_store.file_content.page",
                "data": [{"type": "text", "text": text.text}],
                "has_more": False,
                "next_page": None,
                "file_id": found.file_id,
                "filename": found.filename,
                "attributes": json.loads(found.attributes_json or "{}"),
            }
        )

    async def add_batch(self, call: Call) -> Reply:
        """Add files to a vector store together."""
        body = await call.parse(BatchBody)
        if bool(body.file_ids) == bool(body.files):
            raise InvalidInput("file_ids: give either file_ids or files.", param="file_ids")
        items = [
            BatchItem(one.file_id, _attributes(one.attributes), chunking(one.chunking_strategy)) for one in body.files
        ] or [BatchItem(one, _attributes(body.attributes), chunking(body.chunking_strategy)) for one in body.file_ids]
        made = await self._ingestion.create_batch(call.path["store_id"], items)
        call.touched(made.id)
        return json_reply(batch(made))

    async def get_batch(self, call: Call) -> Reply:
        """Describe a batch."""
        return json_reply(batch(await self._ingestion.get_batch(call.path["store_id"], call.path["batch_id"])))

    async def cancel_batch(self, call: Call) -> Reply:
        """Cancel what is not searchable yet."""
        call.touched(call.path["batch_id"])
        return json_reply(batch(await self._ingestion.cancel_batch(call.path["store_id"], call.path["batch_id"])))

    async def list_batch(self, call: Call) -> Reply:
        """List the files of a batch."""
        found = await self._ingestion.get_batch(call.path["store_id"], call.path["batch_id"])
        if not found.file_ids:
            return json_reply(listed(Page((), has_more=False), store_file))
        return json_reply(await self._listed(call, found.file_ids))

    async def _listed(self, call: Call, file_ids: tuple[str, ...]) -> dict[str, Any]:
        query = call.query(StoreFilesQuery)
        paging = Paging(query.limit, query.after, query.before, ascending=query.order == "asc")
        states = STATES[query.filter] if query.filter else ()
        page = await self._ingestion.list_documents(call.path["store_id"], paging, states=states, file_ids=file_ids)
        return listed(page, store_file)


def _attributes(given: dict[str, Any] | None) -> str:
    return "" if given is None else json.dumps(given, ensure_ascii=False)
