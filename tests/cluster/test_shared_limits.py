"""Limits that several gateways share through Redis: replicas do not multiply them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.backends import redis_counters
from gateway.backends.redis_counters import RedisCounters
from gateway.domain.identity import ApiKey, KeyGrant
from gateway.usecases.limits import Limits
from services.chassis.auth import Role
from services.chassis.errors import RateLimited
from services.chassis.redis_access import RedisAccess
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster


def key(requests_per_minute: int, max_concurrent: int) -> ApiKey:
    grant = KeyGrant(
        f"tenant-{uuid.uuid4().hex}",
        "ann",
        frozenset({Role.VIEWER}),
        requests_per_minute=requests_per_minute,
        max_concurrent=max_concurrent,
    )
    return ApiKey(f"key_{uuid.uuid4().hex}", grant, "cb-…", datetime.now(UTC))


@asynccontextmanager
async def gateway(url: str) -> AsyncIterator[tuple[Limits, RedisCounters, Counter]]:
    alone = Counter("alone", "Counted alone.", registry=CollectorRegistry())
    counters = RedisCounters(RedisAccess(url), alone=alone)
    renewing = asyncio.create_task(counters.run())
    limits = Limits(
        counters=counters,
        requests_per_minute=100_000,
        max_concurrent=1000,
        tenant_requests_per_minute=100_000,
        tenant_max_concurrent=1000,
        max_in_flight=1000,
    )
    yield limits, counters, alone
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    await counters.close()


async def test_two_gateways_let_through_as_many_as_one(cluster: ClusterServers) -> None:
    one_key = key(requests_per_minute=30, max_concurrent=1000)
    async with gateway(cluster.redis) as (one, _, _), gateway(cluster.redis) as (two, _, _):
        taken = await asyncio.gather(*(limits.take(one_key) for limits in (one, two) for _ in range(50)))
    # A token more for each two seconds that the hundred took.
    assert 30 <= sum(allowed for _, allowed in taken) <= 40


async def test_what_runs_on_one_gateway_counts_on_the_other_and_is_given_back(cluster: ClusterServers) -> None:
    one_key = key(requests_per_minute=1000, max_concurrent=2)
    async with gateway(cluster.redis) as (one, _, _), gateway(cluster.redis) as (two, _, _):
        async with one.running(one_key), two.running(one_key):
            for limits in (one, two):
                with pytest.raises(RateLimited):
                    async with limits.running(one_key):
                        pass
        async with asyncio.timeout(30):
            while True:
                try:
                    async with one.running(one_key), two.running(one_key):
                        break
                except RateLimited:
                    await asyncio.sleep(0.01)


async def test_a_request_is_counted_in_the_minute_and_among_what_runs(cluster: ClusterServers) -> None:
    one_key = key(requests_per_minute=1000, max_concurrent=2)
    async with gateway(cluster.redis) as (one, _, alone):
        for _ in range(2):
            assert (await one.take(one_key))[1]
            async with one.running(one_key):
                pass
        assert [
            sample.value for metric in alone.collect() for sample in metric.samples if sample.name == "alone_total"
        ] == [0]


async def test_a_gateway_that_dies_is_not_counted_for_ever_and_one_that_lives_is(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "_LEASE_S", 1.0)
    one_key = key(requests_per_minute=1000, max_concurrent=2)
    async with gateway(cluster.redis) as (lives, _, _):
        dies = RedisCounters(RedisAccess(cluster.redis), alone=Counter("alone", "", registry=CollectorRegistry()))
        assert await dies.enter(one_key.id, 2)
        async with lives.running(one_key):
            with pytest.raises(RateLimited):
                async with lives.running(one_key):
                    pass
            # Nobody renews what the dead one ran; the live one's own entry stays.
            async with asyncio.timeout(30):
                while True:
                    try:
                        async with lives.running(one_key):
                            with pytest.raises(RateLimited):
                                async with lives.running(one_key):
                                    pass
                            break
                    except RateLimited:
                        await asyncio.sleep(0.1)
        await dies.close()


async def test_while_redis_is_away_each_gateway_counts_for_itself_and_says_so(unused_tcp_port: int) -> None:
    one_key = key(requests_per_minute=5, max_concurrent=1)
    async with gateway(f"redis://127.0.0.1:{unused_tcp_port}/0") as (limits, _, alone):
        taken = [(await limits.take(one_key))[1] for _ in range(8)]
        assert taken == [True] * 5 + [False] * 3
        async with limits.running(one_key):
            with pytest.raises(RateLimited):
                async with limits.running(one_key):
                    pass
        async with limits.running(one_key):
            pass
        assert alone._value.get() > 0
