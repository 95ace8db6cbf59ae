"""The servers can be hurt as the fault tests need it, and come back."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.cluster.servers.postgres import PostgresServer
from tests.cluster.servers.process import ServerProcess, passable_folder
from tests.cluster.servers.redis import RedisServer
from tests.cluster_servers import ClusterServers

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as made:
        yield made


@pytest.fixture(params=[RedisServer, PostgresServer])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[ServerProcess]:
    made: ServerProcess = request.param(folder / "server")
    made.start()
    yield made
    made.stop()


def test_a_killed_server_comes_back_where_it_was(server: ServerProcess) -> None:
    killed = server.pid
    server.kill()
    assert not server.is_ready()
    server.start()
    assert server.is_ready()
    assert server.pid != killed


def test_a_frozen_server_answers_nobody_until_it_is_let_go(server: ServerProcess) -> None:
    server.freeze()
    assert not server.is_ready()
    server.thaw()
    # It has the connections of those who asked in vain to look through first.
    assert any(server.is_ready() for _ in range(10))


async def test_redis_keeps_what_it_acknowledged(folder: Path) -> None:
    server = RedisServer(folder / "redis")
    server.start()
    async with Redis.from_url(server.url) as client:
        await client.set("soup", "hot")
        server.kill()
    server.start()
    async with Redis.from_url(server.url) as client:
        assert await client.get("soup") == b"hot"
    server.stop()


async def test_postgres_keeps_what_it_committed(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    connection = await asyncpg.connect(f"{server.url}/postgres")
    await connection.execute("create table dishes (name text)")
    await connection.execute("insert into dishes values ('soup')")
    server.kill()
    connection.terminate()
    server.start()
    connection = await asyncpg.connect(f"{server.url}/postgres")
    assert await connection.fetchval("select name from dishes") == "soup"
    await connection.close()
    server.stop()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = RedisServer(folder / "redis")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", urlsplit(server.url).port))
        taken.listen()
        with pytest.raises(RuntimeError, match="Address already in use"):
            server.start()
    server.start()
    server.stop()


async def test_all_servers_of_the_cluster_answer(cluster: ClusterServers) -> None:
    for address in (cluster.kafka, cluster.weaviate_http, cluster.weaviate_grpc, cluster.redis, cluster.s3):
        host, _, port = address.rpartition("/")[2].partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()
    connection = await asyncpg.connect(f"{cluster.postgres}/postgres")
    assert await connection.fetchval("show fsync") == "on"
    await connection.close()
