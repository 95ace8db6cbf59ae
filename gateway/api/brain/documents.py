"""Documents: brought, listed, read, opened to people, deleted with a receipt."""

import orjson

from gateway.api.brain import views
from gateway.api.brain.requests import Access, Attributes, DocumentsQuery, TextQuery, UploadQuery
from gateway.api.call import Call
from gateway.api.reach import reached
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import Chunking, NewDocument, Paging
from gateway.ports import Ingestion
from gateway.usecases.withholding import Withholding
from services.chassis.errors import InvalidInput

__all__ = ["DocumentRoutes", "chunking"]

_PATH = "/brain/v1/documents"


class DocumentRoutes:
    """Answers for documents.

    Args:
        ingestion: The ingestion room.
        withholding: Takes documents and readers away, with what was learned from them.
    """

    def __init__(self, *, ingestion: Ingestion, withholding: Withholding) -> None:
        self._ingestion = ingestion
        self._withholding = withholding

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_PATH}/{{document_id}}"
        return [
            Route(
                "POST",
                _PATH,
                self.upload,
                "Bring a document, or a new version of the one with the same key; the body is its bytes",
                body=Body.RAW,
                query=UploadQuery,
                creates=True,
            ),
            Route("GET", _PATH, self.list_all, "List a collection's documents", query=DocumentsQuery),
            Route("GET", one, self.get, "Return a document with its state"),
            Route("GET", f"{one}/text", self.text, "Return the stored text that offsets count in", query=TextQuery),
            Route("PUT", f"{one}/access", self.set_access, "Replace the access list", body=Body.JSON, request=Access),
            Route(
                "PUT",
                f"{one}/attributes",
                self.set_attributes,
                "Replace the attributes",
                body=Body.JSON,
                request=Attributes,
            ),
            Route(
                "POST",
                f"{one}/cancel",
                self.cancel,
                "End the work on a document that is not searchable yet",
                body=Body.JSON,
            ),
            Route("DELETE", one, self.delete, "Withhold a document at once and delete it; returns the receipt so far"),
            Route("GET", "/brain/v1/deletions/{document_id}", self.deletion, "Return the receipt of a deletion"),
        ]

    async def upload(self, call: Call) -> Reply:
        """Keep a document; it will reach a final state."""
        asked = call.query(UploadQuery)
        new = NewDocument(
            collection_id=asked.collection,
            filename=asked.filename,
            key=asked.key,
            principals=None if asked.access is None else tuple(asked.access),
            attributes_json=_attributes(asked.attributes),
            chunking=chunking(asked.chunk_tokens, asked.chunk_overlap_tokens),
        )
        document, unchanged, reach = await self._withholding.upload(new, call.chunks())
        call.touched(document.id)
        answer = {"document": views.document(document), "unchanged": unchanged} | reached(reach)
        return json_reply(answer, 200 if unchanged else 202)

    async def list_all(self, call: Call) -> Reply:
        """List documents that the caller may see."""
        asked = call.query(DocumentsQuery)
        found = await self._ingestion.list_documents(
            asked.collection,
            Paging(limit=asked.limit, after=asked.after, ascending=asked.order == "asc"),
            states=asked.state,
            key_prefix=asked.key_prefix,
            name_contains=asked.name,
        )
        return json_reply(views.page(found, views.document, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a document."""
        return json_reply(views.document(await self._ingestion.get_document(call.path["document_id"])))

    async def text(self, call: Call) -> Reply:
        """Return a version's stored text."""
        version = call.query(TextQuery).version
        return json_reply(
            views.document_text(await self._ingestion.get_document_text(call.path["document_id"], version))
        )

    async def set_access(self, call: Call) -> Reply:
        """Replace the access list; narrowing it holds at once."""
        asked = await call.parse(Access)
        document, reach = await self._withholding.set_access(call.path["document_id"], asked.access)
        return json_reply(views.document(document) | reached(reach))

    async def set_attributes(self, call: Call) -> Reply:
        """Replace the attributes."""
        attributes = orjson.dumps((await call.parse(Attributes)).attributes).decode()
        return json_reply(views.document(await self._ingestion.update_document(call.path["document_id"], attributes)))

    async def cancel(self, call: Call) -> Reply:
        """End the work on a document."""
        return json_reply(views.document(await self._ingestion.cancel_document(call.path["document_id"])))

    async def delete(self, call: Call) -> Reply:
        """Delete a document."""
        deletion, reach = await self._withholding.delete_document(call.path["document_id"])
        return json_reply(views.deletion(deletion) | reached(reach), 202)

    async def deletion(self, call: Call) -> Reply:
        """Return the receipt of a deletion."""
        return json_reply(views.deletion(await self._ingestion.get_deletion(call.path["document_id"])))


def chunking(tokens: int | None, overlap: int | None) -> Chunking | None:
    """Return how to cut; None leaves it to the collection.

    Raises:
        InvalidInput: The overlap is more than half, or comes alone.
    """
    if tokens is None and overlap is None:
        return None
    if tokens is None or (overlap or 0) * 2 > tokens:
        raise InvalidInput(
            f"chunk_overlap_tokens: {overlap} is not allowed; give at most half of chunk_tokens.",
            param="chunk_overlap_tokens",
        )
    return Chunking(max_tokens=tokens, overlap_tokens=overlap or 0)


def _attributes(text: str) -> str:
    if not text:
        return ""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"attributes: not valid JSON: {error}.", param="attributes") from error
    if not isinstance(value, dict):
        raise InvalidInput("attributes: give a JSON object of strings, numbers and booleans.", param="attributes")
    return text
