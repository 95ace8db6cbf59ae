"""The index in the cluster's Weaviate: each test in a collection of its own, which goes with the test."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from services.retrieval.backends.weaviate import WeaviateIndex
from services.retrieval.backends.weaviate_server import WeaviateServer
from tests.cluster_servers import ClusterServers


def new_collection() -> str:
    """Return the name of a collection that no other test uses."""
    return f"Test{uuid.uuid4().hex}"


def weaviate_server(cluster: ClusterServers, **about: Any) -> WeaviateServer:
    """Return the cluster's Weaviate as the room's settings would say it."""
    url = f"weaviate://{urlsplit(cluster.weaviate_http).netloc}?grpc={cluster.weaviate_grpc}"
    # A test machine may be as slow as it likes.
    given = {"key": cluster.weaviate_key, "query_timeout_s": 60.0, "write_timeout_s": 120.0}
    return WeaviateServer.of_url(url, **(given | about))


def weaviate_index(server: WeaviateServer, collection: str, **about: Any) -> WeaviateIndex:
    """Return an index that is not open yet."""
    given: dict[str, Any] = {"dimension": 8, "replicas": 1, "consistency": "QUORUM", "ann_rows": 1_000}
    return WeaviateIndex(server, collection=collection, **(given | about))


async def drop_collection(server: WeaviateServer, collection: str) -> None:
    """Remove a collection and everything in it."""
    client = replace(server, query_timeout_s=60.0).client()
    try:
        await client.connect()
        await client.collections.delete(collection)
    finally:
        await client.close()


@asynccontextmanager
async def opened_weaviate(cluster: ClusterServers, **about: Any) -> AsyncIterator[WeaviateIndex]:
    """Open an index in a collection of its own; remove the collection at the end."""
    server, collection = weaviate_server(cluster), new_collection()
    index = weaviate_index(server, collection, **about)
    try:
        await index.open()
        yield index
    finally:
        await index.close()
        await drop_collection(server, collection)
