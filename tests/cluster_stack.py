"""The back ends of a cluster for one stack of a test: its own schemas, topics, collection, keys and folder of the store."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.plan import ROOMS
from tests.cluster_servers import VARIABLE, ClusterServers, cluster_servers
from tests.fresh_databases import fresh_schema

# Databases of Redis for stacks; the first is for tests that ask the server itself.
_REDIS_DATABASES = range(1, 16)


@contextmanager
def back_ends(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the settings of a stack's back ends: those of a cluster where its servers run, else nothing (the embedded ones).

    Args:
        folder: Where files that settings name are written.
    """
    if VARIABLE not in os.environ:
        yield {}
        return
    servers = cluster_servers()
    # Where Amazon's own clients look for keys: the rooms, and this process, which looks into the store.
    os.environ |= {"AWS_ACCESS_KEY_ID": servers.s3_access_key, "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key}
    with contextlib.ExitStack() as stack:
        schemas = {room: stack.enter_context(fresh_schema(servers.postgres)) for room in ROOMS}
        yield _settings(servers, schemas, folder)


def _settings(servers: ClusterServers, schemas: dict[str, str], folder: Path) -> dict[str, str]:
    own = secrets.token_hex(6)
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "weaviate.key"
    key.write_text(servers.weaviate_key)
    redis = f"{servers.redis}/{secrets.choice(_REDIS_DATABASES)}"
    blobs = f"s3://{servers.s3_bucket}/t{own}?endpoint={servers.s3}&plain_http=true&region=us-east-1"
    settings: dict[str, str] = {}
    for room in ROOMS:
        settings |= {
            f"BRAIN_{room.upper()}_DATABASE_URL": schemas[room],
            f"BRAIN_{room.upper()}_EVENTS_URL": f"kafka://{servers.kafka}?partitions=3&prefix=t{own}.",
            f"BRAIN_{room.upper()}_BLOBS_URL": blobs,
        }
    return settings | {
        "BRAIN_RETRIEVAL_INDEX_URL": f"{servers.weaviate_http.replace('http', 'weaviate')}?grpc={servers.weaviate_grpc}",
        "BRAIN_RETRIEVAL_INDEX_KEY_FILE": str(key),
        "BRAIN_RETRIEVAL_INDEX_COLLECTION": f"T{own}",
        "BRAIN_INGESTION_JOBS_URL": redis,
        "BRAIN_FINETUNING_JOBS_URL": redis,
        "BRAIN_GATEWAY_LIMITS_URL": redis,
    }
