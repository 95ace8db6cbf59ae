"""Redis behind TLS and a password: who may come in, and what others meet."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import pytest

from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.jobs.bell import open_bell
from services.chassis.redis_access import RedisAccess, RedisSettings
from tests.certificates import Authority
from tests.cluster.guarded_servers import GuardedRedis, RedisCaller, Shown
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def guarded(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    made = GuardedRedis(tmp_path_factory.mktemp("guarded-redis"))
    yield made
    made.process.stop()


@pytest.fixture
def shown(guarded: GuardedRedis) -> Shown:
    return Shown(guarded.authority.file, *guarded.authority.sign("room"))


async def is_heard(caller: RedisAccess, hearer: RedisAccess, *, within_s: float) -> bool:
    woken = asyncio.Event()
    heard = open_bell(hearer, room="kitchen", wake=woken.set)
    ringing = open_bell(caller, room="kitchen", wake=lambda: None)
    assert heard is not None
    assert ringing is not None
    hearing = asyncio.create_task(heard.run())
    ringing.ring()
    try:
        async with asyncio.timeout(within_s):
            await woken.wait()
    except TimeoutError:
        return False
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await heard.close()
        await ringing.close()
    return True


async def test_who_shows_a_certificate_and_knows_the_password_is_heard(
    guarded: GuardedRedis, shown: Shown, tmp_path: Path
) -> None:
    assert await is_heard(guarded.access(shown), guarded.access(shown), within_s=60)
    # One process knows one broker by its address, and would go on with the connection that is open.
    kombu.pools.reset()
    stranger = Shown(shown.ca, *Authority(tmp_path, "stranger").sign("room"))
    assert not await is_heard(guarded.access(stranger), guarded.access(shown), within_s=5)


async def test_who_does_not_know_the_password_counts_alone(guarded: GuardedRedis, shown: Shown, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect donkey")
    with pytest.raises(Unavailable, match="alone"):
        await RedisCaller(guarded.access(shown, redis_password_file=wrong)).reach()


def test_settings_that_go_together_are_asked_for_together(guarded: GuardedRedis, shown: Shown) -> None:
    with pytest.raises(InvalidInput, match="redis_cert_key_file"):
        guarded.access(shown, redis_cert_key_file=None)
    with pytest.raises(InvalidInput, match="rediss://"):
        RedisAccess.of("redis://host", RedisSettings(redis_ca_file=guarded.authority.file))
