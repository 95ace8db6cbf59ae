"""Redis behind TLS that asks clients for certificates, and behind a password: who may come in, and what others meet."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.backends.redis_counters import RedisCounters
from services.chassis.errors import InvalidInput
from services.chassis.jobs.bell import open_bell
from services.chassis.redis_access import RedisAccess, RedisSettings
from tests.certificates import Authority
from tests.cluster.servers.redis import RedisServer
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster

PASSWORD = "correct: horse/battery"


@dataclass(frozen=True)
class Guarded:
    """A Redis that lets in who shows a certificate of its authority and knows a password."""

    url: str
    folder: Path
    authority: Authority

    def access(self, **changed: Any) -> RedisAccess:
        certificate, key = self.authority.sign("room")
        password = self.folder / "password"
        password.write_text(f"{PASSWORD}\n")
        given: dict[str, Any] = {
            "redis_password_file": password,
            "redis_ca_file": self.authority.file,
            "redis_cert_file": certificate,
            "redis_cert_key_file": key,
        }
        return RedisAccess.of(self.url, RedisSettings(**(given | changed)))


@pytest.fixture(scope="module")
def guarded(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded-redis")
    authority = Authority(folder)
    certificate, key = authority.sign("redis")
    server = RedisServer(
        folder / "redis",
        arguments=[
            *("--tls-port", "{tls_port}", "--tls-auth-clients", "yes", "--tls-ca-cert-file", str(authority.file)),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--requirepass", PASSWORD),
        ],
    )
    server.start()
    yield Guarded(f"{server.tls_url}/0", folder, authority)
    server.stop()


async def test_who_shows_a_certificate_and_knows_the_password_rings_and_counts(guarded: Guarded) -> None:
    woken = asyncio.Event()
    heard = open_bell(guarded.access(), room="kitchen", wake=woken.set)
    caller = open_bell(guarded.access(), room="kitchen", wake=lambda: None)
    assert heard is not None
    assert caller is not None
    hearing = asyncio.create_task(heard.run())
    caller.ring()
    async with asyncio.timeout(60):
        await woken.wait()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    await heard.close()
    await caller.close()

    alone = Counter("alone", "Counted alone.", registry=CollectorRegistry())
    counters = RedisCounters(guarded.access(), alone=alone)
    assert (await counters.draw("key", 10)).allowed
    await counters.close()
    assert alone._value.get() == 0


@pytest.mark.parametrize("what", ["password", "expired", "another authority's", "no certificate", "server"])
async def test_who_does_not_counts_alone(guarded: Guarded, tmp_path: Path, what: str) -> None:
    stranger = Authority(tmp_path, "stranger")
    match what:
        case "password":
            wrong = tmp_path / "wrong"
            wrong.write_text("incorrect donkey")
            changed: dict[str, Any] = {"redis_password_file": wrong}
        case "expired":
            certificate, key = guarded.authority.sign("late", expired=True)
            changed = {"redis_cert_file": certificate, "redis_cert_key_file": key}
        case "another authority's":
            certificate, key = stranger.sign("room")
            changed = {"redis_cert_file": certificate, "redis_cert_key_file": key}
        case "no certificate":
            changed = {"redis_cert_file": None, "redis_cert_key_file": None}
        case _:
            changed = {"redis_ca_file": stranger.file}
    alone = Counter("alone", "Counted alone.", registry=CollectorRegistry())
    counters = RedisCounters(guarded.access(**changed), alone=alone)
    assert (await counters.draw("key", 10)).allowed
    await counters.close()
    assert alone._value.get() == 1


def test_settings_that_go_together_are_asked_for_together(guarded: Guarded) -> None:
    with pytest.raises(InvalidInput, match="redis_cert_key_file"):
        guarded.access(redis_cert_key_file=None)
    with pytest.raises(InvalidInput, match="rediss://"):
        RedisAccess.of("redis://host", RedisSettings(redis_ca_file=guarded.authority.file))
