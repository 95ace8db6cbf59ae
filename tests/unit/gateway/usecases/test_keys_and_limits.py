import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.database import KeysTable
from gateway.backends.memory_counters import MemoryCounters
from gateway.domain.identity import ApiKey, KeyGrant
from gateway.domain.keeping import Paging
from gateway.usecases.authenticate import Authenticate
from gateway.usecases.keys import CreateKey, ListKeys, RevokeKey, RotateKey
from gateway.usecases.limits import Limits
from services.chassis.auth import Role
from services.chassis.database import Database, migrate
from services.chassis.errors import Conflict, InvalidInput, NotFound, Overloaded, RateLimited, Unauthenticated

PEPPER = b"pepper"
GRANT = KeyGrant(tenant="acme", subject="ann", roles=frozenset({Role.VIEWER}), groups=frozenset({"hr"}))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await migrate(made, "gateway.migrations")
    yield made
    await made.close()


@pytest.fixture
def keys(database: Database) -> KeysTable:
    return KeysTable(database)


async def test_a_key_opens_what_it_was_made_for_and_is_kept_nowhere(keys: KeysTable, tmp_path: Path) -> None:
    key, secret = await CreateKey(keys=keys, pepper=PEPPER)(GRANT)
    found = await Authenticate(keys=keys, pepper=PEPPER)(f"Bearer {secret}")
    assert found == key
    assert found.caller.principals == ("user:ann", "group:hr", "group:everyone")
    assert len(secret) > 43
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
    # The database alone is worthless: under another pepper nothing opens.
    with pytest.raises(Unauthenticated):
        await Authenticate(keys=keys, pepper=b"other")(f"Bearer {secret}")


async def test_a_revoked_key_opens_nothing_from_then_on(keys: KeysTable) -> None:
    authenticate = Authenticate(keys=keys, pepper=PEPPER)
    key, secret = await CreateKey(keys=keys, pepper=PEPPER)(GRANT)
    await authenticate(f"Bearer {secret}")
    revoke = RevokeKey(keys=keys, forget=authenticate.forget)
    with pytest.raises(NotFound):
        await revoke("globex", key.id)
    await revoke("acme", key.id)
    with pytest.raises(Unauthenticated):
        await authenticate(f"Bearer {secret}")


async def test_a_rotated_key_lives_on_for_the_overlap_only(keys: KeysTable) -> None:
    now = datetime.now(UTC)
    create = CreateKey(keys=keys, pepper=PEPPER)
    old, old_secret = await create(
        KeyGrant("acme", "ann", frozenset({Role.VIEWER}), expires_at=now + timedelta(days=30))
    )
    authenticate = Authenticate(keys=keys, pepper=PEPPER)
    rotate = RotateKey(keys=keys, create=create, forget=authenticate.forget)
    new, new_secret = await rotate("acme", old.id, overlap=timedelta(hours=1))
    assert (await authenticate(f"Bearer {new_secret}")).id == new.id
    # What was revoked for later still opens until then.
    kept = await keys.get("acme", old.id)
    assert kept.is_good(now)
    assert not kept.is_good(now + timedelta(hours=2))
    assert (await authenticate(f"Bearer {old_secret}")).id == old.id
    await keys.end("acme", new.id, now - timedelta(hours=1))
    with pytest.raises(Conflict):
        await rotate("acme", new.id)
    # The calendar has an end.
    last = datetime.max.replace(tzinfo=UTC)
    far, _ = await create(KeyGrant("acme", "ann", frozenset({Role.VIEWER}), expires_at=last))
    assert (await rotate("acme", far.id))[0].grant.expires_at == last


@pytest.mark.parametrize(
    ("grant", "param"),
    [
        (KeyGrant("", "ann", frozenset({Role.VIEWER})), "tenant"),
        (KeyGrant("acme", " ", frozenset({Role.VIEWER})), "subject"),
        (KeyGrant("acme", "ann", frozenset()), "roles"),
        (KeyGrant("acme", "ann", frozenset({Role.VIEWER}), requests_per_minute=0), "requests_per_minute"),
        (KeyGrant("acme", "ann", frozenset({Role.VIEWER}), requests_per_minute=2**63), "requests_per_minute"),
        (KeyGrant("acme", "ann", frozenset({Role.VIEWER}), max_concurrent=2**63), "max_concurrent"),
        (KeyGrant("acme", "ann", frozenset({Role.VIEWER}), expires_at=datetime(2001, 1, 1, tzinfo=UTC)), "expires_at"),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused(keys: KeysTable, grant: KeyGrant, param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await CreateKey(keys=keys, pepper=PEPPER)(grant)
    assert caught.value.param == param


async def test_keys_are_listed_by_tenant_in_pages(keys: KeysTable) -> None:
    create = CreateKey(keys=keys, pepper=PEPPER)
    made = [(await create(GRANT))[0].id for _ in range(3)]
    await create(KeyGrant("globex", "bob", frozenset({Role.VIEWER})))
    first = await ListKeys(keys=keys)("acme", Paging(limit=2))
    assert ([key.id for key in first.items], first.has_more) == ([made[2], made[1]], True)
    rest = await ListKeys(keys=keys)("acme", Paging(limit=2, after=first.items[-1].id))
    assert ([key.id for key in rest.items], rest.has_more) == ([made[0]], False)


def limits_of(*, clock: Callable[[], float] = time.monotonic, **given: Any) -> Limits:
    """Return limits that are far away but for those given."""
    each = {"requests_per_minute": 1000, "max_concurrent": 1000}
    together = {"tenant_requests_per_minute": 1000, "tenant_max_concurrent": 1000, "max_in_flight": 1000}
    return Limits(counters=MemoryCounters(clock=clock), **(each | together | given))


async def test_a_bucket_fills_evenly_and_holds_a_minute() -> None:
    clock = [0.0]
    limits = limits_of(requests_per_minute=60, clock=lambda: clock[0])
    key = ApiKey("key_1", GRANT, "cb-…", datetime.now(UTC))
    assert all([(await limits.take(key))[1] for _ in range(60)])
    state, allowed = await limits.take(key)
    assert not allowed
    assert state.remaining == 0
    assert state.reset_s == pytest.approx(1.0)
    clock[0] = 1.0
    assert (await limits.take(key))[1]
    assert not (await limits.take(key))[1]
    clock[0] = 1000.0
    assert (await limits.take(key))[0].remaining == 59


async def test_all_keys_together_are_limited_too() -> None:
    limits = limits_of(max_in_flight=1)
    one, two = (ApiKey(name, GRANT, "cb-…", datetime.now(UTC)) for name in ("key_1", "key_2"))
    async with limits.running(one):
        with pytest.raises(Overloaded):
            async with limits.running(two):
                pass
    async with limits.running(two):
        pass


async def test_the_keys_of_a_tenant_share_its_limits() -> None:
    def key(name: str, tenant: str) -> ApiKey:
        grant = KeyGrant(tenant, "ann", frozenset({Role.VIEWER}), requests_per_minute=100, max_concurrent=100)
        return ApiKey(name, grant, "cb-…", datetime.now(UTC))

    one, two, other = key("key_1", "acme"), key("key_2", "acme"), key("key_3", "globex")
    limits = limits_of(tenant_requests_per_minute=3, tenant_max_concurrent=2, clock=lambda: 0.0)
    assert [(await limits.take(each))[1] for each in (one, two, one, two, other)] == [True, True, True, False, True]
    assert (await limits.take(two))[0].limit == 3
    running = limits.running
    async with running(one), running(two), running(other):
        with pytest.raises(RateLimited, match="tenant"):
            async with running(one):
                pass
    async with running(one), running(one):
        pass
