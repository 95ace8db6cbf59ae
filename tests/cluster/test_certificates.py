"""Certificates on both sides, to every server of a cluster: who is let in, and files that are replaced meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.errors import Unavailable
from tests.certificates import Authority, MountedSecret, serial_of
from tests.cluster.guarded_servers import (
    Caller,
    Guarded,
    GuardedKafka,
    GuardedPostgres,
    GuardedRedis,
    GuardedS3,
    GuardedWeaviate,
    PostgresCaller,
    Shown,
)
from tests.cluster.servers.postgres import USER
from tests.cluster.servers.process import passable_folder
from tests.cluster_servers import ClusterServers

pytestmark = [
    pytest.mark.cluster,
    # Kafka's library leaves sockets of refused connections to the garbage collector, which closes them.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

KINDS = [GuardedKafka, GuardedPostgres, GuardedRedis, GuardedWeaviate]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.removeprefix("Guarded").lower())
def guarded(cluster: ClusterServers, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with passable_folder() as folder:
        made: Guarded = request.param(folder / "guarded")
        yield made
        made.process.stop()


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "stranger")


def good(guarded: Guarded) -> Shown:
    """Return the files of a room; PostgreSQL asks for its user's name in the certificate."""
    return Shown(guarded.authority.file, *guarded.authority.sign(USER))


async def is_let_in(caller: Caller) -> bool:
    try:
        async with asyncio.timeout(100):
            await caller.reach()
    except Unavailable:
        return False
    return True


async def test_who_shows_a_certificate_comes_in(guarded: Guarded) -> None:
    caller = guarded.caller(good(guarded))
    await caller.reach()
    await caller.close()


@pytest.mark.parametrize("what", ["expired", "another authority's", "none", "the server's", "the server's expired"])
async def test_who_does_not_is_refused_in_time(guarded: Guarded, stranger: Authority, what: str) -> None:
    shown = good(guarded)
    match what:
        case "expired":
            caller = guarded.caller(Shown(shown.ca, *guarded.authority.sign(USER, expired=True)))
        case "another authority's":
            caller = guarded.caller(Shown(shown.ca, *stranger.sign(USER)))
        case "none":
            caller = guarded.caller(Shown(shown.ca, None, None))
        case "the server's":
            caller = guarded.caller(Shown(stranger.file, shown.cert, shown.key))
        case _:
            async with guarded.expired() as late:
                caller = late(shown)
                assert not await is_let_in(caller)
    assert not await is_let_in(caller)
    await caller.close()


async def test_new_connections_use_the_files_of_the_moment(
    guarded: Guarded, stranger: Authority, tmp_path: Path
) -> None:
    secret = MountedSecret(tmp_path / "mounted")
    secret.put(guarded.authority.sign(USER), guarded.authority)
    caller = guarded.caller(Shown(secret.ca, secret.cert, secret.key))

    async def until(let_in: bool) -> None:
        async with asyncio.timeout(120):
            while await is_let_in(caller) is not let_in:
                await asyncio.sleep(0.2)

    def sees() -> None:
        if isinstance(caller, PostgresCaller):
            assert caller.serial == serial_of(secret.cert)

    await caller.reach()
    sees()
    # Whom the server does not know.
    secret.put(stranger.sign(USER), guarded.authority)
    await until(let_in=False)
    secret.put(guarded.authority.sign(USER), guarded.authority)
    await until(let_in=True)
    sees()
    # Half a file changes nothing.
    whole = secret.contents
    secret.put_bytes(whole[0], whole[1][:100], whole[2])
    await asyncio.sleep(1.5)
    await caller.reach()
    # An authority that does not vouch for the server.
    secret.put(guarded.authority.sign(USER), stranger)
    await until(let_in=False)
    # Both: how a fleet moves from one to the other.
    secret.put(guarded.authority.sign(USER), stranger, guarded.authority)
    await until(let_in=True)
    await caller.close()


async def test_a_private_store_is_trusted_by_its_authority_alone(
    cluster: ClusterServers, tmp_path: Path, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.blobs._MAX_RETRIES", 1)
    for expired in (False, True):
        store = GuardedS3(tmp_path / f"expired-{expired}", expired=expired)
        for name, value in store.keys.items():
            monkeypatch.setenv(name, value)
        try:
            assert await is_let_in(store.caller(good(store))) is not expired
            assert not await is_let_in(store.caller(Shown(stranger.file, None, None)))
        finally:
            store.process.stop()
