"""`/v1/vector_stores`: collections, and searching them."""

import json
from typing import Final

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.openai.requests import ListQuery, SearchBody, StoreBody, StoreChange
from gateway.api.openai.views import chunking, listed, result, store
from gateway.api.reach import reached
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.finding import SearchSpec
from gateway.domain.keeping import BatchItem, CollectionChanges, Paging
from gateway.ports import Ingestion, Retrieval
from gateway.usecases.withholding import Withholding
from services.chassis.errors import InvalidInput

__all__ = ["StoreRoutes"]

_STORE: Final = "/v1/vector_stores/{store_id}"
# OpenAI's names for "whatever is best": our default.
_DEFAULT_RANKERS: Final = frozenset({"auto", "default-2024-11-15", "default_2024_08_21"})
_MAX_QUERIES: Final = 16


class StoreRoutes:
    """Keeps and searches vector stores.

    Args:
        ingestion: Keeps collections.
        retrieval: Searches them.
        withholding: Takes them away, with what was learned from them.
    """

    def __init__(self, *, ingestion: Ingestion, retrieval: Retrieval, withholding: Withholding) -> None:
        self._ingestion = ingestion
        self._retrieval = retrieval
        self._withholding = withholding

    def routes(self) -> list[Route]:
        """Return the routes."""
        json_body = Body.JSON
        return [
            Route(
                "POST",
                "/v1/vector_stores",
                self.create,
                "Make a vector store",
                body=json_body,
                request=StoreBody,
                creates=True,
            ),
            Route("GET", "/v1/vector_stores", self.list, "List vector stores", query=ListQuery),
            Route("GET", _STORE, self.get, "Describe a vector store"),
            Route("POST", _STORE, self.update, "Change a vector store", body=json_body, request=StoreChange),
            Route("DELETE", _STORE, self.delete, "Delete a vector store with its documents"),
            Route(
                "POST",
                f"{_STORE}/search",
                self.search,
                "Search a vector store",
                body=json_body,
                request=SearchBody,
                only_reads=True,
            ),
        ]

    async def create(self, call: Call) -> Reply:
        """Make a vector store, with files where they are given."""
        body = await call.parse(StoreBody)
        made = await self._ingestion.create_collection(
            name=body.name or "",
            metadata=body.metadata or {},
            default_principals=body.default_access,
            chunking=chunking(body.chunking_strategy),
            expires_after_days=body.expires_after.days if body.expires_after else 0,
        )
        call.touched(made.id)
        if body.file_ids:
            cut = chunking(body.chunking_strategy)
            await self._ingestion.create_batch(made.id, [BatchItem(one, chunking=cut) for one in body.file_ids])
            made = await self._ingestion.get_collection(made.id)
        return json_reply(store(made))

    async def list(self, call: Call) -> Reply:
        """List the tenant's vector stores."""
        query = call.query(ListQuery)
        paging = Paging(query.limit, query.after, query.before, ascending=query.order == "asc")
        return json_reply(listed(await self._ingestion.list_collections(paging), store))

    async def get(self, call: Call) -> Reply:
        """Describe a vector store."""
        return json_reply(store(await self._ingestion.get_collection(call.path["store_id"])))

    async def update(self, call: Call) -> Reply:
        """Change what is given; an expiry of null lifts it."""
        body = await call.parse(StoreChange)
        expires_after_days = body.expires_after.days if body.expires_after else None
        if "expires_after" in body.model_fields_set and expires_after_days is None:
            expires_after_days = 0
        changes = CollectionChanges(
            name=body.name,
            metadata=body.metadata,
            default_principals=None if body.default_access is None else tuple(body.default_access),
            expires_after_days=expires_after_days,
        )
        return json_reply(store(await self._ingestion.update_collection(call.path["store_id"], changes)))

    async def delete(self, call: Call) -> Reply:
        """Delete a vector store; what it holds is withheld at once."""
        store_id = call.path["store_id"]
        _, reach = await self._withholding.delete_collection(store_id)
        return json_reply({"id": store_id, "object": "vector_store.deleted", "deleted": True} | reached(reach))

    async def search(self, call: Call) -> Reply:
        """Return the best passages."""
        body = await call.parse(SearchBody)
        queries = [body.query] if isinstance(body.query, str) else body.query
        if not 1 <= len(queries) <= _MAX_QUERIES or not all(query.strip() for query in queries):
            raise InvalidInput(f"query: give 1 to {_MAX_QUERIES} texts that are not empty.", param="query")
        options = body.ranking_options
        hybrid = options.hybrid_search if options else None
        ranker = (options.ranker or "") if options else ""
        spec = SearchSpec(
            queries=tuple(queries),
            collection_ids=(call.path["store_id"],),
            filter_json="" if body.filters is None else json.dumps(body.filters),
            top_k=body.max_num_results,
            alpha=hybrid.embedding_weight / (hybrid.embedding_weight + hybrid.text_weight) if hybrid else None,
            ranker="" if ranker in _DEFAULT_RANKERS else ranker,
            score_threshold=options.score_threshold if options else None,
        )
        with called("ranker", "ranking_options.ranker"):
            found = await self._retrieval.search(spec)
        return json_reply(
            {
                "object": "vector_store.search_results.page",
                "search_query": queries,
                "data": [result(one) for one in found],
                "has_more": False,
                "next_page": None,
            }
        )
