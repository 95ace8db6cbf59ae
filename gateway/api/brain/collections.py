"""Collections: made, listed, changed, deleted, and compared with a folder (`brain sync`)."""

from collections.abc import AsyncGenerator

from gateway.api.brain import views
from gateway.api.brain.documents import chunking
from gateway.api.brain.requests import CollectionBody, CollectionChange, CollectionQuery
from gateway.api.call import Call
from gateway.api.reach import reached
from gateway.api.replies import Reply, Stream, json_line, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import CollectionChanges, Document, Paging
from gateway.ports import Ingestion
from gateway.usecases.withholding import Withholding

__all__ = ["CollectionRoutes"]

_PATH = "/brain/v1/collections"
# As many as the ingestion room lists at once.
_MANIFEST_PAGE = 1000


class CollectionRoutes:
    """Answers for collections.

    Args:
        ingestion: The ingestion room.
        withholding: Takes collections away, with what was learned from their documents.
    """

    def __init__(self, *, ingestion: Ingestion, withholding: Withholding) -> None:
        self._ingestion = ingestion
        self._withholding = withholding

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_PATH}/{{collection_id}}"
        return [
            Route(
                "POST", _PATH, self.create, "Make a collection", body=Body.JSON, request=CollectionBody, creates=True
            ),
            Route("GET", _PATH, self.list_all, "List collections", query=CollectionQuery),
            Route("GET", one, self.get, "Return a collection with its counts"),
            Route("PATCH", one, self.change, "Change a collection", body=Body.JSON, request=CollectionChange),
            Route("DELETE", one, self.delete, "Delete a collection with its documents"),
            Route(
                "GET",
                f"{one}/manifest",
                self.manifest,
                "Key, digest and state of every document, one JSON object a line",
                answer="application/x-ndjson",
            ),
        ]

    async def create(self, call: Call) -> Reply:
        """Make a collection."""
        asked = await call.parse(CollectionBody)
        made = await self._ingestion.create_collection(
            name=asked.name,
            metadata=asked.metadata,
            default_principals=asked.default_access,
            chunking=chunking(asked.chunk_tokens, asked.chunk_overlap_tokens),
            expires_after_days=asked.expires_after_days or 0,
        )
        call.touched(made.id)
        return json_reply(views.collection(made), 201)

    async def list_all(self, call: Call) -> Reply:
        """List collections."""
        asked = call.query(CollectionQuery)
        paging = Paging(limit=asked.limit, after=asked.after, ascending=asked.order == "asc")
        found = await self._ingestion.list_collections(paging, name=asked.name)
        return json_reply(views.page(found, views.collection, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a collection."""
        return json_reply(views.collection(await self._ingestion.get_collection(call.path["collection_id"])))

    async def change(self, call: Call) -> Reply:
        """Change a collection."""
        asked = await call.parse(CollectionChange)
        changes = CollectionChanges(
            name=asked.name,
            metadata=asked.metadata,
            default_principals=None if asked.default_access is None else tuple(asked.default_access),
            expires_after_days=asked.expires_after_days,
        )
        return json_reply(
            views.collection(await self._ingestion.update_collection(call.path["collection_id"], changes))
        )

    async def delete(self, call: Call) -> Reply:
        """Delete a collection."""
        identity = call.path["collection_id"]
        gone, reach = await self._withholding.delete_collection(identity)
        return json_reply({"id": identity, "state": "deleting", "documents": len(gone)} | reached(reach), 202)

    async def manifest(self, call: Call) -> Stream:
        """Stream what a folder is compared with; only documents that the caller may see."""
        return Stream(self._lines(call.path["collection_id"]), media_type="application/x-ndjson")

    async def _lines(self, collection_id: str) -> AsyncGenerator[bytes, None]:
        after, has_more = "", True
        # A line of its own first: a collection that the caller may not know of is an error answer, an empty one is not.
        yield json_line({"collection": (await self._ingestion.get_collection(collection_id)).id}) + b"\n"
        while has_more:
            paging = Paging(limit=_MANIFEST_PAGE, after=after, ascending=True)
            page = await self._ingestion.list_documents(collection_id, paging)
            has_more = page.has_more and bool(page.items)
            if page.items:
                after = page.items[-1].id
                yield b"".join(json_line(_line(one)) + b"\n" for one in page.items)


def _line(one: Document) -> dict[str, object]:
    return {
        "id": one.id,
        "key": one.key,
        "filename": one.filename,
        "digest": one.digest,
        "size_bytes": one.size_bytes,
        "version": one.version,
        "state": one.state.value,
        "reason": one.failure_reason or None,
    }
