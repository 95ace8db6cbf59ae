"""The index in Weaviate: one collection, a Weaviate tenant for each of ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from weaviate.classes.aggregate import GroupByAggregate
from weaviate.classes.config import (
    Configure,
    ConsistencyLevel,
    ReplicationDeletionStrategy,
    StopwordsPreset,
    VectorDistances,
)
from weaviate.classes.query import FilterReturn, MetadataQuery
from weaviate.collections import CollectionAsync
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateQueryError

from services.chassis.errors import Conflict, InvalidInput, NotFound, Unavailable
from services.retrieval.backends.weaviate_rows import (
    HIT_PROPERTIES,
    ROW_PROPERTIES,
    SLOTS,
    batches_of,
    hits_of,
    of_documents,
    of_places,
    of_slots,
    place_of,
    principals_of,
    properties,
    row_of,
    tenant_name,
    terms_of,
    where,
)
from services.retrieval.backends.weaviate_server import WeaviateServer, answered, refusal_of
from services.retrieval.domain import ChunkRow, Hit, Scope

__all__ = ["Consistency", "WeaviateIndex"]

Consistency = Literal["ONE", "QUORUM", "ALL"]
Collection = CollectionAsync[Any, Any]
Answer = TypeVar("Answer")

# Of the properties and what they hold; a collection of another number is refused.
_SCHEMA: Final = 1
# QUERY_MAXIMUM_RESULTS of a server that was told nothing else: more hits are refused, more are not deleted at once.
_MAX_RESULTS: Final = 10_000
# Groups of one count.
_MAX_GROUPS: Final = 10_000
# Chunks read at once where all of a document are; a chunk is a few kilobytes.
_PAGE: Final = 2_000
# Chunks read at once with their vectors where all of a tenant are: an answer of some MB.
_SCANNED: Final = 500
# Documents named in one filter.
_MAX_DOCUMENTS: Final = 500
# Chunks changed at once: each is a request of its own.
_AT_ONCE: Final = 16
_NOT_FOUND: Final = 404


class WeaviateIndex:
    """Back end of the index port.

    Weaviate must index at once (`ASYNC_INDEXING` off, as it is by default), and its keyword search must pass over nothing
    (`BLOCKMAX_WAND_PER_SEGMENT_LIMIT=20000`; docs/decisions/0033).

    Args:
        server: Where Weaviate is.
        dimension: Components of a vector.
        collection: Name of the collection; it is made when there is none.
        replicas: Copies of each chunk in a collection that is made.
        consistency: How many copies must have answered.
        ann_rows: Rows that pass a search's filter above which an approximate vector index is asked in a collection
            that is made; below, every vector is compared.
    """

    def __init__(
        self,
        server: WeaviateServer,
        *,
        dimension: int,
        collection: str,
        replicas: int,
        consistency: Consistency,
        ann_rows: int,
    ) -> None:
        self._server = server
        self._dimension = dimension
        self._name = collection
        self._replicas = replicas
        self._consistency = ConsistencyLevel(consistency)
        self._ann_rows = ann_rows
        self._client = server.client()
        self._collection: Collection

    async def open(self, *, create: bool = True) -> None:
        """Connect and open the collection.

        Args:
            create: Whether it is made when there is none.

        Raises:
            NotFound: There is none, and it is not to be made.
            InvalidInput: The server does not take the key.
            Conflict: The collection holds something else.
            Unavailable: The server is away.
        """
        try:
            async with answered(self._server.query_timeout_s):
                await self._client.connect()
                there = await self._client.collections.exists(self._name)
                if create and not there:
                    await self._make()
                    there = True
                collection = self._client.collections.use(self._name)
                about = (await collection.config.get()).description if there else None
                if about == self._about():
                    # REST has answered: does gRPC?
                    await collection.tenants.get_by_names([tenant_name("")])
        except Unavailable as error:
            await self.close()
            address = f"{self._server.http_host}:{self._server.http_port}"
            if refusal := refusal_of(error.__cause__):
                raise InvalidInput(f"{refusal} (Weaviate at {address}).", private=error.private) from error
            raise Unavailable(
                f"index_url: Weaviate at {address} does not answer (gRPC at "
                f"{self._server.grpc_host}:{self._server.grpc_port}).",
                private=error.private,
                retry_after_s=error.retry_after_s,
            ) from error
        if not there:
            await self.close()
            raise NotFound(f"There is no index {self._name}.")
        if about != self._about():
            await self.close()
            raise Conflict(
                f"index_collection: {self._name} holds vectors of another model or rows of another release; "
                "choose another name and index again.",
                private=f"it says {about!r}, not {self._about()!r}",
            )
        self._collection = collection.with_consistency_level(self._consistency)

    def _about(self) -> str:
        """Return what the collection says of itself: Weaviate keeps no dimension before the first vector."""
        return json.dumps({"schema": _SCHEMA, "dimension": self._dimension})

    async def _make(self) -> None:
        try:
            await self._client.collections.create(
                self._name,
                description=self._about(),
                properties=properties(),
                vector_config=Configure.Vectors.self_provided(
                    quantizer=Configure.VectorIndex.Quantizer.none(),
                    vector_index_config=Configure.VectorIndex.hnsw(
                        distance_metric=VectorDistances.COSINE, flat_search_cutoff=self._ann_rows
                    ),
                ),
                inverted_index_config=Configure.inverted_index(stopwords_preset=StopwordsPreset.NONE),
                # Made by the first write, in the order of the servers' own log: two that are the first make one.
                multi_tenancy_config=Configure.multi_tenancy(
                    enabled=True, auto_tenant_creation=True, auto_tenant_activation=True
                ),
                replication_config=Configure.replication(
                    factor=self._replicas, deletion_strategy=ReplicationDeletionStrategy.TIME_BASED_RESOLUTION
                ),
            )
        except UnexpectedStatusCodeError:
            # Another process was faster.
            if not await self._client.collections.exists(self._name):
                raise

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def drop(self) -> None:
        """Remove the collection with all its tenants."""
        async with answered(self._server.write_timeout_s):
            await self._client.collections.delete(self._name)
            there = await self._client.collections.exists(self._name)
        if there:
            raise Unavailable("The index is still there.", private=self._name, retry_after_s=1.0)

    async def dense(self, scope: Scope, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        """Return the nearest chunks."""
        condition = where(scope)
        if condition is None:
            return []
        found = await self._ask(
            scope.tenant,
            lambda collection: collection.query.near_vector(
                near_vector=vector.tolist(),
                filters=condition,
                limit=min(limit, _MAX_RESULTS),
                return_properties=list(HIT_PROPERTIES),
                return_metadata=MetadataQuery(distance=True),
                include_vector=True,
            ),
        )
        objects = [] if found is None else found.objects
        return hits_of(objects, (1.0 - (one.metadata.distance or 0.0) for one in objects))

    async def keyword(self, scope: Scope, search_text: str, *, limit: int) -> list[Hit]:
        """Return the chunks that share tokens."""
        condition = where(scope)
        if condition is None or not search_text.split():
            return []
        found = await self._ask(
            scope.tenant,
            lambda collection: collection.query.bm25(
                search_text,
                query_properties=["search_text"],
                filters=condition,
                limit=min(limit, _MAX_RESULTS),
                return_properties=list(HIT_PROPERTIES),
                return_metadata=MetadataQuery(score=True),
                include_vector=True,
            ),
        )
        objects = [] if found is None else found.objects
        return hits_of(objects, (one.metadata.score or 0.0 for one in objects))

    async def write(self, rows: Sequence[ChunkRow]) -> None:
        """Write chunks in batches. Each chunk is whole; a batch that fails may be there in part."""
        for tenant, batch in batches_of(rows):
            collection = self._collection.with_tenant(tenant_name(tenant))
            async with answered(self._server.write_timeout_s):
                result = await collection.data.insert_many(batch)
            for error in result.errors.values():
                raise Unavailable("The index did not take every chunk.", private=error.message, retry_after_s=1.0)

    async def counts(self, tenant: str, document_ids: Sequence[str]) -> dict[tuple[str, int], int]:
        """Return the number of chunks by document and version."""
        counted: dict[tuple[str, int], int] = {}
        for part in _parts(document_ids):
            counted.update(await self._count(tenant, part))
        return counted

    async def _count(self, tenant: str, document_ids: Sequence[str]) -> dict[tuple[str, int], int]:
        found = await self._ask(
            tenant,
            lambda collection: collection.aggregate.over_all(
                filters=of_documents(document_ids), group_by=GroupByAggregate(prop="place", limit=_MAX_GROUPS)
            ),
        )
        groups = [] if found is None else found.groups
        if len(groups) >= _MAX_GROUPS and len(document_ids) > 1:
            # Some may have been left out.
            middle = len(document_ids) // 2
            halves = [await self._count(tenant, half) for half in (document_ids[:middle], document_ids[middle:])]
            return halves[0] | halves[1]
        return {place_of(str(group.grouped_by.value)): group.total_count or 0 for group in groups}

    async def clear(self, tenant: str, keep: Mapping[str, int | None]) -> None:
        """Remove chunks, as many at a time as Weaviate does, until none is left."""
        for part in _parts(list(keep)):
            condition = of_documents(part)
            kept = [(document, version) for document in part if (version := keep[document]) is not None]
            if kept:
                condition &= of_places(kept, wanted=False)
            while await self._delete(tenant, condition):
                pass

    async def _delete(self, tenant: str, condition: FilterReturn) -> int:
        """Remove some that meet the condition; return how many met it before."""
        result = await self._ask(
            tenant,
            lambda collection: collection.data.delete_many(where=condition),
            timeout_s=self._server.write_timeout_s,
        )
        if result is None:
            return 0
        if result.failed or result.successful < min(result.matches, 1):
            raise Unavailable(
                "The index did not remove every chunk.",
                private=f"{result.failed} of {result.matches} failed",
                retry_after_s=1.0,
            )
        return result.matches

    async def set_access(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> None:
        """Give the document's chunks other principals."""
        await self._change(
            tenant, document_id, {"principals": principals_of(principals), "access_revision": int(revision)}
        )

    async def set_attribute_terms(self, tenant: str, document_id: str, terms: Sequence[str]) -> None:
        """Give the document's chunks other attribute terms."""
        await self._change(tenant, document_id, {"attribute_terms": terms_of(terms)})

    async def tokens(self, tenant: str, document_id: str, version: int) -> frozenset[str]:
        """Return every token of a version."""
        condition = of_places([(document_id, version)], wanted=True)
        held: set[str] = set()
        async for found in self._pages(tenant, condition, ["search_text"]):
            held.update(token for one in found for token in one.properties["search_text"].split())
        return frozenset(held)

    async def scan(self, tenant: str) -> AsyncIterator[Sequence[ChunkRow]]:
        """Yield every chunk of a tenant in batches, in the order of their ids."""
        after = None
        while True:
            found = await self._ask(tenant, _page_after(after))
            if found is None or not found.objects:
                return
            after = found.objects[-1].uuid
            yield [row_of(one, tenant) for one in found.objects]

    async def maintain(self) -> None:
        """Do nothing: the server folds in what was written by itself."""

    async def _change(self, tenant: str, document_id: str, values: Mapping[str, object]) -> None:
        collection = self._collection.with_tenant(tenant_name(tenant))
        async for found in self._pages(tenant, of_documents([document_id]), []):
            for first in range(0, len(found), _AT_ONCE):
                async with answered(self._server.write_timeout_s):
                    results = await asyncio.gather(
                        *(
                            collection.data.update(one.uuid, properties=values)
                            for one in found[first : first + _AT_ONCE]
                        ),
                        return_exceptions=True,
                    )
                    for error in results:
                        # One that was removed meanwhile needs no change.
                        gone = isinstance(error, UnexpectedStatusCodeError) and error.status_code == _NOT_FOUND
                        if isinstance(error, BaseException) and not gone:
                            raise error

    async def _pages(self, tenant: str, condition: FilterReturn, names: Sequence[str]) -> AsyncIterator[Sequence[Any]]:
        """Yield everything that meets the condition, with the properties named, in pages that the server grants."""
        total = await self._ask(tenant, lambda collection: collection.aggregate.over_all(filters=condition))
        pages = -(-((total.total_count or 0) if total is not None else 0) // _PAGE)
        for page in range(pages):
            part = condition & of_slots(SLOTS * page // pages, SLOTS * (page + 1) // pages) if pages > 1 else condition
            found = await self._fetch(tenant, part, names)
            yield found

    async def _fetch(self, tenant: str, condition: FilterReturn, names: Sequence[str]) -> Sequence[Any]:
        found = await self._ask(
            tenant,
            lambda collection: collection.query.fetch_objects(
                filters=condition, limit=_MAX_RESULTS, return_properties=list(names) or False
            ),
        )
        return [] if found is None else found.objects

    async def _ask(
        self, tenant: str, ask: Callable[[Collection], Awaitable[Answer]], *, timeout_s: float | None = None
    ) -> Answer | None:
        """Return what the tenant's part of the collection answers, or None where there is no such part.

        Raises:
            Unavailable: No answer, or one that is an error.
        """
        name = tenant_name(tenant)
        try:
            async with answered(timeout_s or self._server.query_timeout_s):
                return await ask(self._collection.with_tenant(name))
        except Unavailable as error:
            if not isinstance(error.__cause__, WeaviateQueryError):
                raise
            async with answered(self._server.query_timeout_s):
                known = await self._collection.tenants.get_by_names([name])
            if known:
                raise
            return None


def _page_after(chunk_id: UUID | None) -> Callable[[Collection], Awaitable[Any]]:
    """Return the question for the chunks whose ids come next."""
    return lambda collection: collection.query.fetch_objects(
        after=chunk_id, limit=_SCANNED, return_properties=list(ROW_PROPERTIES), include_vector=True
    )


def _parts(document_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(document_ids), _MAX_DOCUMENTS):
        yield document_ids[first : first + _MAX_DOCUMENTS]
