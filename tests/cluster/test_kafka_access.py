"""Kafka behind TLS that asks clients for certificates, and behind SASL: who may come in, and what others are told."""

import asyncio
import gc
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.events.kafka_access import kafka_access
from services.chassis.events.log import new_envelope, open_event_log
from services.chassis.settings import EventSettings
from tests.certificates import Authority
from tests.cluster.servers.kafka import KafkaServer
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster

USER, PASSWORD = "brain", "correct horse"


@dataclass(frozen=True)
class Guarded:
    """A broker that lets in who shows a certificate of its authority and knows a password."""

    url: str
    folder: Path
    authority: Authority

    def settings(self, **changed: Any) -> EventSettings:
        certificate, key = self.authority.sign("room")
        password = self.folder / "password"
        password.write_text(f"{PASSWORD}\n")
        given: dict[str, Any] = {
            "events_user": USER,
            "events_password_file": password,
            "events_mechanism": "SCRAM-SHA-256",
            "events_ca_file": self.authority.file,
            "events_cert_file": certificate,
            "events_cert_key_file": key,
        }
        return EventSettings(**(given | changed))


@pytest.fixture(scope="module")
def guarded(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    certificate, key = authority.sign("broker")
    store = folder / "broker.store.pem"
    store.write_text(key.read_text() + certificate.read_text())
    made = Guarded("", folder, authority)
    broker = KafkaServer(
        folder / "kafka",
        settings={
            "listeners": "SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": "SASL_SSL://127.0.0.1:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-256",
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required "
                f'username="{USER}" password="{PASSWORD}";'
            ),
            # By the listener's name: the general setting is not for listeners with SASL.
            "listener.name.sasl_ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.file),
            "ssl.endpoint.identification.algorithm": "",
        },
        format_arguments=["--add-scram", f"SCRAM-SHA-256=[name={USER},password={PASSWORD},iterations=4096]"],
        client=kafka_access(made.settings(), tls=True),
    )
    broker.start()
    yield Guarded(f"kafkas://{broker.address}", folder, authority)
    broker.stop()


async def test_who_shows_a_certificate_and_knows_the_password_comes_in(guarded: Guarded) -> None:
    log = open_event_log(guarded.url, access=guarded.settings())
    topic, sent = f"brain.kitchen-{uuid.uuid4().hex}.v1", new_envelope(tenant="acme", type="x", key="k", payload=b"1")
    await log.publish(topic, [sent])
    [record] = await log.read(topic, "eaters", wait_s=0)
    assert record.envelope == sent
    await log.commit("eaters", record)
    assert await log.lag(topic, "eaters") == 0
    assert (await anext(log.replay(topic))).envelope == sent
    await log.close()


@pytest.mark.parametrize("what", ["password", "no user", "expired", "another authority's", "no certificate", "server"])
# The library leaves sockets of refused connections to the garbage collector, which closes them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_who_does_not_is_refused_in_time(guarded: Guarded, tmp_path: Path, what: str) -> None:
    stranger = Authority(tmp_path, "stranger")
    match what:
        case "password":
            wrong = tmp_path / "wrong"
            wrong.write_text("incorrect donkey")
            changed: dict[str, Any] = {"events_password_file": wrong}
        case "no user":
            changed = {"events_user": "", "events_password_file": None}
        case "expired":
            certificate, key = guarded.authority.sign("late", expired=True)
            changed = {"events_cert_file": certificate, "events_cert_key_file": key}
        case "another authority's":
            certificate, key = stranger.sign("room")
            changed = {"events_cert_file": certificate, "events_cert_key_file": key}
        case "no certificate":
            changed = {"events_cert_file": None, "events_cert_key_file": None}
        case _:
            # The broker's own is not from whom the room trusts.
            changed = {"events_ca_file": stranger.file}
    log = open_event_log(guarded.url, access=guarded.settings(**changed))
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await log.publish("brain.kitchen.v1", [new_envelope(tenant="a", type="x", key="k", payload=b"")])
    await log.close()
    gc.collect()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"events_password_file": None}, "events_password_file"),
        ({"events_user": ""}, "events_user"),
        ({"events_cert_key_file": None}, "events_cert_key_file"),
    ],
)
def test_settings_that_go_together_are_asked_for_together(
    guarded: Guarded, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        open_event_log(guarded.url, access=guarded.settings(**changed))


def test_certificates_are_for_tls(guarded: Guarded) -> None:
    with pytest.raises(InvalidInput, match="kafkas://"):
        open_event_log(guarded.url.replace("kafkas", "kafka"), access=guarded.settings())


def test_a_file_that_holds_no_certificate_is_said_to_be_none(guarded: Guarded, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    with pytest.raises(InvalidInput, match="PEM"):
        open_event_log(guarded.url, access=guarded.settings(events_ca_file=nothing))
