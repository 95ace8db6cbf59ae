"""What every back end of the gateway's counters promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.backends.memory_counters import MemoryCounters
from gateway.backends.redis_counters import RedisCounters
from gateway.ports import Counters
from services.chassis.redis_access import RedisAccess
from tests.cluster_servers import ClusterServers

Open = Callable[[], Counters]


def redis_counters(url: str) -> RedisCounters:
    return RedisCounters(RedisAccess(url), alone=Counter("alone", "Counted alone.", registry=CollectorRegistry()))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.cluster)])
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    if request.param == "memory":
        opened: Counters = MemoryCounters()
    else:
        servers: ClusterServers = request.getfixturevalue("cluster")
        opened = redis_counters(servers.redis)
    yield opened
    await opened.close()


@pytest.fixture
def name() -> str:
    """A name of the test's own: one server serves all tests."""
    return f"key_{uuid.uuid4().hex} with a space"


async def test_a_bucket_holds_a_minute_and_fills_evenly(counters: Counters, name: str) -> None:
    drawn = [await counters.draw(name, 60) for _ in range(60)]
    assert all(one.allowed for one in drawn)
    assert 0 <= drawn[-1].left < 60
    # As fast as a test draws, a second's worth comes back at most now and then.
    over = [await counters.draw(name, 60) for _ in range(5)]
    refused = [one for one in over if not one.allowed]
    assert refused
    assert all(0 <= one.left < 1 for one in refused)
    async with asyncio.timeout(30):
        while not (await counters.draw(name, 60)).allowed:
            await asyncio.sleep(0.05)


async def test_buckets_do_not_disturb_each_other(counters: Counters, name: str) -> None:
    assert (await counters.draw(name, 1)).allowed
    assert not (await counters.draw(name, 1)).allowed
    assert (await counters.draw(f"{name}!", 1)).allowed


async def test_no_more_run_at_once_than_may(counters: Counters, name: str) -> None:
    entries = [await counters.enter(name, 3) for _ in range(3)]
    assert all(entries)
    assert len(set(entries)) == 3
    assert await counters.enter(name, 3) is None
    assert await counters.enter(f"{name}!", 3)
    counters.leave(name, entries[0] or "")
    async with asyncio.timeout(30):
        while await counters.enter(name, 3) is None:
            await asyncio.sleep(0.01)
    assert await counters.enter(name, 3) is None
