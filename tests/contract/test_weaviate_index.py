"""What only the index in Weaviate has: a server that is elsewhere, guards itself, and answers so much at a time."""

import asyncio
import logging
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.chassis.errors import Conflict, InvalidInput, Unavailable
from services.retrieval.backends import weaviate as weaviate_backend
from services.retrieval.backends.weaviate import Consistency
from services.retrieval.domain import ChunkRow, Locator, Scope, chunk_id
from tests.cluster_servers import ClusterServers
from tests.tcp_relay import certificate, relays
from tests.weaviate_index import drop_collection, new_collection, opened_weaviate, weaviate_index, weaviate_server

pytestmark = pytest.mark.cluster
SCOPE = Scope(tenant="acme", collection_ids=("vs_1",), principals=("group:everyone",))


def unit(size: int = 8) -> Any:
    made = np.zeros(size, np.float32)
    made[0] = 1
    return made


def rows(document: str, count: int = 1, *, vector: Any = None, text: str = "word") -> list[ChunkRow]:
    """Chunks of one document; thousands of one vector would take the vector index minutes."""
    drawn = np.random.default_rng(7).normal(size=(count, 8)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return [
        ChunkRow(
            chunk_id=chunk_id("acme", document, 1, at),
            tenant="acme",
            collection_id="vs_1",
            document_id=document,
            version=1,
            live=True,
            principals=("group:everyone",),
            access_revision=1,
            attribute_terms=(),
            text=text,
            start=0,
            end=len(text),
            locator=Locator(),
            search_text=text,
            vector=drawn[at] if vector is None else vector,
        )
        for at in range(count)
    ]


@pytest.mark.parametrize("key", ["wrong", ""])
async def test_a_key_that_is_not_known_is_said_at_the_start(cluster: ClusterServers, key: str) -> None:
    index = weaviate_index(weaviate_server(cluster, key=key), new_collection())
    with pytest.raises(InvalidInput, match="index_key_file"):
        await index.open()


@pytest.mark.parametrize("away", ["REST", "gRPC"])
async def test_a_server_that_is_away_is_said_at_the_start_and_soon(cluster: ClusterServers, away: str) -> None:
    # Nobody listens on port 1.
    near = weaviate_server(cluster, query_timeout_s=3.0)
    server = replace(near, http_port=1) if away == "REST" else replace(near, grpc_port=1)
    index, began = weaviate_index(server, collection := new_collection()), time.monotonic()
    try:
        with pytest.raises(Unavailable, match="index_url"):
            await index.open()
        assert time.monotonic() - began < 20
    finally:
        await drop_collection(weaviate_server(cluster), collection)


async def test_a_server_that_falls_silent_or_dies_is_waited_for_so_long_and_found_again(
    cluster: ClusterServers,
) -> None:
    direct, collection = weaviate_server(cluster), new_collection()
    async with relays(f"{direct.http_host}:{direct.http_port}", cluster.weaviate_grpc) as (http, grpc):
        through = replace(direct, http_port=http.port, grpc_host="127.0.0.1", grpc_port=grpc.port)
        index = weaviate_index(replace(through, query_timeout_s=2.0, write_timeout_s=2.0), collection)
        try:
            await index.open()
            await index.write(rows("d"))
            for silent in (True, False):
                if silent:
                    http.flowing.clear()
                    grpc.flowing.clear()
                else:
                    await http.leave()
                    await grpc.leave()
                for call in (
                    index.dense(SCOPE, unit(), limit=5),
                    index.keyword(SCOPE, "word", limit=5),
                    index.write(rows("e")),
                    index.counts("acme", ["d"]),
                ):
                    began = time.monotonic()
                    with pytest.raises(Unavailable):
                        await call
                    assert time.monotonic() - began < 20
                if silent:
                    http.flowing.set()
                    grpc.flowing.set()
                else:
                    await http.listen()
                    await grpc.listen()
                async with asyncio.timeout(60):
                    while True:
                        try:
                            assert (await index.counts("acme", ["d"])) == {("d", 1): 1}
                            break
                        except Unavailable:
                            await asyncio.sleep(0.2)
        finally:
            await index.close()
            await drop_collection(direct, collection)


async def test_tls_reaches_both_ports_and_trusts_whom_it_is_told_to(cluster: ClusterServers, tmp_path: Path) -> None:
    own, stranger = certificate(tmp_path, "localhost"), certificate(tmp_path, "stranger")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(own)
    serving.load_verify_locations(own)
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.set_alpn_protocols(["h2", "http/1.1"])
    direct, collection = weaviate_server(cluster), new_collection()
    async with relays(f"{direct.http_host}:{direct.http_port}", cluster.weaviate_grpc, context=serving) as (http, grpc):
        plain = replace(direct, http_host="localhost", http_port=http.port, grpc_host="localhost", grpc_port=grpc.port)
        tls = replace(plain, tls=True, ca_file=own, cert_file=own)
        index = weaviate_index(tls, collection)
        try:
            await index.open()
            await index.write(rows("d"))
            assert len(await index.dense(SCOPE, unit(), limit=5)) == 1
            await index.set_access("acme", "d", ["user:bob"], 2)
        finally:
            await index.close()
            await drop_collection(direct, collection)
        for refused in (
            replace(tls, ca_file=stranger),
            replace(tls, cert_file=None),
            replace(tls, cert_file=stranger, cert_key_file=stranger),
            replace(tls, ca_file=None, cert_file=None),
        ):
            index = weaviate_index(replace(refused, query_timeout_s=3.0), collection)
            with pytest.raises(Unavailable, match="index_url"):
                await index.open()
        nothing = tmp_path / "nothing.pem"
        nothing.write_text("no certificate")
        with pytest.raises(InvalidInput, match="index_ca_file"):
            weaviate_index(replace(tls, ca_file=nothing), collection)


async def test_processes_that_start_together_make_one_collection(cluster: ClusterServers) -> None:
    server, collection = weaviate_server(cluster), new_collection()
    indexes = [weaviate_index(server, collection) for _ in range(4)]
    try:
        await asyncio.gather(*(index.open() for index in indexes))
        await asyncio.gather(*(index.write(rows(f"d{at}", 20)) for at, index in enumerate(indexes)))
        names = [f"d{at}" for at in range(4)]
        for index in indexes:
            assert await index.counts("acme", names) == {(name, 1): 20 for name in names}
    finally:
        for index in indexes:
            await index.close()
        await drop_collection(server, collection)


async def test_vectors_of_another_model_are_refused(cluster: ClusterServers) -> None:
    server, collection = weaviate_server(cluster), new_collection()
    first, second = (weaviate_index(server, collection, dimension=dimension) for dimension in (8, 16))
    try:
        await first.open()
        with pytest.raises(Conflict, match="index_collection"):
            await second.open()
    finally:
        await first.close()
        await drop_collection(server, collection)


async def test_a_collection_of_somebody_else_is_refused(cluster: ClusterServers) -> None:
    server, collection = weaviate_server(cluster), new_collection()
    client = server.client()
    await client.connect()
    try:
        await client.collections.create(collection)
        with pytest.raises(Conflict, match="index_collection"):
            await weaviate_index(server, collection).open()
    finally:
        await client.collections.delete(collection)
        await client.close()


async def test_more_replicas_than_nodes_are_refused_by_that_name(cluster: ClusterServers) -> None:
    with pytest.raises(InvalidInput, match="index_replicas"):
        await weaviate_index(weaviate_server(cluster), new_collection(), replicas=99).open()


@pytest.mark.parametrize("consistency", ["ONE", "QUORUM", "ALL"])
async def test_every_consistency_is_taken(cluster: ClusterServers, consistency: Consistency) -> None:
    async with opened_weaviate(cluster, consistency=consistency) as index:
        await index.write(rows("d", 3))
        await index.set_attribute_terms("acme", "d", ["team=s:it"])
        assert len(await index.keyword(SCOPE, "word", limit=5)) == 3
        await index.clear("acme", {"d": None})
        assert await index.dense(SCOPE, unit(), limit=5) == []


async def test_a_chunk_that_is_refused_is_named_in_the_log_alone_and_without_its_text(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened_weaviate(cluster) as index:
        await index.write(rows("d"))
        strange = rows("e", vector=unit(16), text="confidential")
        for batch in (strange, [*rows("f"), *strange]):
            with pytest.raises(Unavailable) as refused:
                await index.write(batch)
            assert "dimensions" in (refused.value.private or "")
            assert "dimensions" not in refused.value.message
    assert "confidential" not in caplog.text


async def test_more_chunks_than_one_answer_holds_are_counted_read_and_removed(cluster: ClusterServers) -> None:
    many = 10_300
    async with opened_weaviate(cluster) as index:
        await index.write(rows("d", many))
        await index.write(rows("other"))
        assert await index.counts("acme", ["d", "other"]) == {("d", 1): many, ("other", 1): 1}
        assert await index.tokens("acme", "d", 1) == {"word"}
        assert len(await index.keyword(SCOPE, "word", limit=32_000)) == 10_000
        await index.clear("acme", {"d": None})
        assert await index.counts("acme", ["d", "other"]) == {("other", 1): 1}


async def test_counts_stay_exact_when_there_are_more_groups_than_are_told(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaviate_backend, "_MAX_GROUPS", 3)
    async with opened_weaviate(cluster) as index:
        names = [f"d{at}" for at in range(9)]
        await index.write([row for name in names for row in rows(name, 2)])
        assert await index.counts("acme", names) == {(name, 1): 2 for name in names}
