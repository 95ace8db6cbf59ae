"""A stack on servers of its own, which a test may kill, freeze and wipe; only the blobs lie on the shared store."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.local.plan import ROOMS
from tests.cluster.servers.kafka import KafkaServer
from tests.cluster.servers.postgres import PostgresServer
from tests.cluster.servers.process import ServerProcess, passable_folder
from tests.cluster.servers.redis import RedisServer
from tests.cluster.servers.weaviate import WeaviateServer
from tests.running_stack import RunningStack, running_stack

__all__ = ["OwnServers", "OwnStack", "own_servers", "own_stack"]


@dataclass(frozen=True)
class OwnServers:
    """Servers that nobody else uses."""

    kafka: KafkaServer
    weaviate: WeaviateServer
    redis: RedisServer
    postgres: PostgresServer

    def settings(self, folder: Path) -> dict[str, str]:
        """Return the settings of rooms on them.

        Args:
            folder: Where the file with Weaviate's key is written.
        """
        key = folder / "own-weaviate.key"
        key.write_text(self.weaviate.key)
        settings: dict[str, str] = {}
        for room in ROOMS:
            settings |= {
                f"BRAIN_{room.upper()}_DATABASE_URL": f"{self.postgres.url}/postgres?schema={room}",
                f"BRAIN_{room.upper()}_EVENTS_URL": f"kafka://{self.kafka.address}?partitions=3",
            }
        place = f"{urlsplit(self.weaviate.http).netloc}?grpc={self.weaviate.grpc}"
        return settings | {
            "BRAIN_RETRIEVAL_INDEX_URL": f"weaviate://{place}",
            "BRAIN_RETRIEVAL_INDEX_KEY_FILE": str(key),
            "BRAIN_RETRIEVAL_INDEX_COLLECTION": "Own",
            "BRAIN_INGESTION_JOBS_URL": f"{self.redis.url}/0",
            "BRAIN_FINETUNING_JOBS_URL": f"{self.redis.url}/0",
            "BRAIN_GATEWAY_LIMITS_URL": f"{self.redis.url}/0",
        }


@dataclass(frozen=True)
class OwnStack:
    """A stack and the servers that it stands on."""

    stack: RunningStack
    servers: OwnServers


@contextmanager
def own_servers() -> Iterator[OwnServers]:
    """Start the servers on empty data, yield them when all answer, and stop them."""
    with passable_folder() as folder, ExitStack() as stopping:
        servers = OwnServers(
            KafkaServer(folder / "kafka"),
            WeaviateServer(folder / "weaviate"),
            RedisServer(folder / "redis"),
            PostgresServer(folder / "postgres"),
        )
        every: list[ServerProcess] = [servers.kafka, servers.weaviate, servers.redis, servers.postgres]
        # In this thread, one after the other: a server ends with the thread that started it.
        for server in every:
            stopping.callback(server.stop)
            server.start()
        yield servers


@contextmanager
def own_stack(folder: Path) -> Iterator[OwnStack]:
    """Start servers and a stack on them; what is asked is answered by the scripted engine."""
    folder.mkdir(parents=True, exist_ok=True)
    with own_servers() as servers:
        engine = "scripted://?mode=extract&rate=200"
        with running_stack(folder / "stack", engine=engine, environment=servers.settings(folder)) as stack:
            yield OwnStack(stack, servers)
