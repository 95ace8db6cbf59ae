"""The servers of a cluster, started together and stopped together."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.servers import kafka, postgres, redis, s3, weaviate
from tests.cluster.servers.process import ServerProcess
from tests.cluster_servers import ClusterServers

__all__ = ["install", "running_cluster"]

# What brings or builds each; what stands in a row comes one after the other: Debian's packages share a lock.
INSTALLS: tuple[dict[str, Callable[[], Path]], ...] = (
    {"redis": redis.install, "postgres": postgres.install},
    {"kafka": kafka.install},
    {"s3": s3.install},
    {"weaviate": weaviate.install},
)


def install(say: Callable[[str], None]) -> None:
    """Bring what is missing; say how long each took.

    Raises:
        SystemExit: One cannot be brought; the message says what to install.
    """

    def bring(row: dict[str, Callable[[], Path]]) -> None:
        for name, install_one in row.items():
            began = time.monotonic()
            where = install_one()
            say(f"{name:<9} installed {time.monotonic() - began:6.1f} s  {where}")

    with ThreadPoolExecutor(max_workers=len(INSTALLS)) as threads:
        for brought in [threads.submit(bring, row) for row in INSTALLS]:
            brought.result()


@contextmanager
def running_cluster(folder: Path, say: Callable[[str], None]) -> Iterator[ClusterServers]:
    """Start all servers on empty data in `folder`, yield where they are when all answer, and stop them.

    Raises:
        RuntimeError: One did not start; its output is in the message.
    """
    broker = kafka.KafkaServer(folder / "kafka")
    index = weaviate.WeaviateServer(folder / "weaviate")
    messages = redis.RedisServer(folder / "redis")
    tables = postgres.PostgresServer(folder / "postgres")
    objects = s3.S3Server(folder / "s3")
    servers: list[ServerProcess] = [broker, index, tables, objects, messages]

    def start(server: ServerProcess) -> None:
        began = time.monotonic()
        server.start()
        say(f"{server.name:<9} ready     {time.monotonic() - began:6.1f} s  pid {server.pid}")

    # A server ends with the thread that started it: these live until all have been stopped.
    with ThreadPoolExecutor(max_workers=len(servers)) as threads:
        starting = [threads.submit(start, server) for server in servers]
        try:
            for started in starting:
                started.result()
            yield ClusterServers(
                kafka=broker.address,
                weaviate_http=index.http,
                weaviate_grpc=index.grpc,
                weaviate_key=index.key,
                redis=messages.url,
                postgres=tables.url,
                s3=objects.url,
                s3_access_key=objects.access_key,
                s3_secret_key=objects.secret_key,
                s3_bucket=objects.bucket,
            )
        finally:
            # Also when one failed: the others are on their way.
            wait(starting)
            for stopped in [threads.submit(server.stop) for server in servers]:
                stopped.result()
