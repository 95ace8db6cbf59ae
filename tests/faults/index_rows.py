"""What lies in a stack's index, read behind the search, which might hide what should not be there."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import lancedb

from services.retrieval.backends.weaviate_rows import tenant_name
from services.retrieval.backends.weaviate_server import WeaviateServer

__all__ = ["Place", "places"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where one stored chunk stands: `start` counts characters of the version's text."""

    document_id: str
    version: int
    start: int


_COLUMNS = ("collection_id", "document_id", "version", "start")


def places(environment: Mapping[str, str], state_dir: Path, collection: str) -> list[Place]:
    """Return the place of every stored chunk of a collection of the tenant `main`, each as often as it is stored.

    Args:
        environment: Settings of the stack; where they name no index, it is the embedded one.
        state_dir: Folder of the stack.
        collection: Id of the collection.
    """
    url = environment.get("BRAIN_RETRIEVAL_INDEX_URL", f"lancedb://{state_dir / 'index'}")
    scheme, _, rest = url.partition("://")
    match scheme:
        case "lancedb":
            rows = lancedb.connect(rest).open_table("chunks").to_arrow().select(_COLUMNS).to_pylist()
        case "weaviate":
            key = Path(environment["BRAIN_RETRIEVAL_INDEX_KEY_FILE"]).read_text().strip()
            server = WeaviateServer.of_url(url, key=key, query_timeout_s=60.0, write_timeout_s=60.0)
            rows = asyncio.run(_weaviate_rows(server, environment["BRAIN_RETRIEVAL_INDEX_COLLECTION"]))
        case _:
            raise ValueError(f"BRAIN_RETRIEVAL_INDEX_URL: {url!r} is neither lancedb:// nor weaviate://.")
    return [
        Place(str(row["document_id"]), int(row["version"]), int(row["start"]))
        for row in rows
        if row["collection_id"] == collection
    ]


async def _weaviate_rows(server: WeaviateServer, collection: str) -> list[dict[str, object]]:
    client = server.client()
    try:
        await client.connect()
        stored = client.collections.use(collection).with_tenant(tenant_name("main"))
        rows: list[dict[str, object]] = [
            dict(one.properties) async for one in stored.iterator(return_properties=list(_COLUMNS))
        ]
    finally:
        await client.close()
    # It keeps ids between two bars: it compares no white space at the ends of a text.
    return [row | {name: str(row[name])[1:-1] for name in ("collection_id", "document_id")} for row in rows]
