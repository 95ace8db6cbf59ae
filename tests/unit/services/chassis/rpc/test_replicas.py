"""Which replica a call goes to, over real channels."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.rpc import replicas
from services.chassis.rpc.client import connect
from services.chassis.rpc.replicas import ReplicaChannel, affinity, connect_replicas, each_replica

KEYS = [f"conversation {number}" for number in range(60)]


class Replica(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers with its number as the state; holds watchers until it is let go."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.let_go = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=self.number)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield health_pb2.HealthCheckResponse(status=self.number)
        await self.let_go.wait()


@asynccontextmanager
async def serving(count: int) -> AsyncIterator[tuple[list[Replica], list[grpc.aio.Server], list[str]]]:
    made, servers, addresses = [], [], []
    for number in range(1, count + 1):
        server = grpc.aio.server()
        replica = Replica(number)
        health_pb2_grpc.add_HealthServicer_to_server(replica, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        made.append(replica)
        servers.append(server)
    yield made, servers, addresses
    for replica, server in zip(made, servers, strict=True):
        replica.let_go.set()
        await server.stop(0)


async def asked(stub: Any, key: str) -> int:
    """Return the number of the replica that answers."""
    with affinity(key):
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    return int(answer.status)


async def test_what_belongs_together_goes_to_one_replica_and_all_have_a_share() -> None:
    async with serving(3) as (_, _, addresses), connect_replicas(f"ipv4:{','.join(addresses)}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        first = {key: await asked(stub, key) for key in KEYS}
        assert {key: await asked(stub, key) for key in KEYS} == first
        assert min(Counter(first.values()).values()) >= len(KEYS) / 10
        # Another process decides alike, in whatever order it knows the replicas.
        async with connect_replicas(f"ipv4:{','.join(reversed(addresses))}") as other:
            theirs = health_pb2_grpc.HealthStub(other)
            assert {key: await asked(theirs, key) for key in KEYS} == first
        assert len(each_replica(channel)) == 3


async def test_a_replica_that_went_moves_only_what_it_had_and_its_calls_are_taken_by_others() -> None:
    async with serving(3) as (_, servers, addresses), connect_replicas(f"ipv4:{','.join(addresses)}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        first = {key: await asked(stub, key) for key in KEYS}
        await servers[0].stop(0)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await asked(stub, next(key for key in KEYS if first[key] == 1))
        await asyncio.sleep(0.05)
        then = {key: await asked(stub, key) for key in KEYS}
        assert 1 not in then.values()
        assert {key: one for key, one in then.items() if first[key] != 1} == {
            key: one for key, one in first.items() if one != 1
        }


async def test_what_changes_nothing_is_asked_of_another_replica_when_one_went() -> None:
    check = "grpc.health.v1.Health/Check"
    async with (
        serving(3) as (_, servers, addresses),
        connect_replicas(f"ipv4:{','.join(addresses)}", idempotent=[check]) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        first = {key: await asked(stub, key) for key in KEYS}
        await servers[0].stop(0)
        assert 1 not in {await asked(stub, key) for key in KEYS}
        # However often the one that went is thought of again.
        await asyncio.sleep(2.1)
        assert await asked(stub, next(key for key in KEYS if first[key] == 1)) != 1
        for server in servers[1:]:
            await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await asked(stub, KEYS[0])


async def test_a_replica_with_much_to_do_is_passed_by() -> None:
    async with serving(3) as (made, _, addresses), connect_replicas(f"ipv4:{','.join(addresses)}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        running, seen = [], []
        with affinity("everybody asks this"):
            for _ in range(12):
                call = stub.Watch(health_pb2.HealthCheckRequest())
                running.append(call)
                seen.append((await call.read()).status)
        shares = Counter(seen)
        # A quarter above the mean, rounded up.
        assert max(shares.values()) <= 5
        assert len(shares) == 3
        for replica in made:
            replica.let_go.set()


async def test_without_affinity_calls_go_where_least_is_going_on() -> None:
    async with serving(2) as (made, _, addresses), connect_replicas(f"ipv4:{','.join(addresses)}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        running, seen = [], []
        for _ in range(6):
            call = stub.Watch(health_pb2.HealthCheckRequest())
            running.append(call)
            seen.append((await call.read()).status)
        assert Counter(seen) == {1: 3, 2: 3}
        for replica in made:
            replica.let_go.set()


async def test_replicas_behind_a_name_are_met_as_they_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_LOOK_UP_S", 0.05)
    async with serving(3) as (_, _, addresses):
        known = addresses[:2]

        async def resolve(host: str, port: int) -> Sequence[str]:
            assert (host, port) == ("generation", 50051)
            if not known:
                raise OSError("no such name")
            return known

        def one(address: str, name: str) -> grpc.aio.Channel:
            assert name == "generation"
            return connect(address if address != "generation:50051" else addresses[0], server_name=name)

        async with ReplicaChannel("generation:50051", connect=one, resolve=resolve) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def answering() -> set[int]:
                return {await asked(stub, key) for key in KEYS}

            for now, expected in (([*addresses[:2]], {1, 2}), ([*addresses[1:]], {2, 3}), ([], {2, 3})):
                known[:] = now
                async with asyncio.timeout(30):
                    while await answering() != expected:
                        await asyncio.sleep(0.05)
