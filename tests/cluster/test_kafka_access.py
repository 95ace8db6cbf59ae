"""Kafka behind a password: who may sign in, and which settings go together."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.events.log import new_envelope, open_event_log
from tests.cluster.guarded_servers import GuardedKafka, Shown
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def guarded(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    made = GuardedKafka(tmp_path_factory.mktemp("guarded"))
    yield made
    made.process.stop()


@pytest.fixture
def shown(guarded: GuardedKafka) -> Shown:
    return Shown(guarded.authority.file, *guarded.authority.sign("room"))


async def test_who_shows_a_certificate_and_knows_the_password_comes_in(guarded: GuardedKafka, shown: Shown) -> None:
    log = open_event_log(f"kafkas://{guarded.at[0]}", access=guarded.settings(shown))
    topic, sent = f"brain.kitchen-{uuid.uuid4().hex}.v1", new_envelope(tenant="acme", type="x", key="k", payload=b"1")
    await log.publish(topic, [sent])
    [record] = await log.read(topic, "eaters", wait_s=0)
    assert record.envelope == sent
    await log.commit("eaters", record)
    assert await log.lag(topic, "eaters") == 0
    assert (await anext(log.replay(topic))).envelope == sent
    await log.close()


@pytest.mark.parametrize("what", ["password", "no user"])
# The library leaves sockets of refused connections to the garbage collector, which closes them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_who_does_not_is_refused_in_time(guarded: GuardedKafka, shown: Shown, tmp_path: Path, what: str) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect donkey")
    changed: dict[str, Any] = {"events_password_file": wrong}
    if what == "no user":
        changed = {"events_user": "", "events_password_file": None}
    log = open_event_log(f"kafkas://{guarded.at[0]}", access=guarded.settings(shown, **changed))
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await log.publish("brain.kitchen.v1", [new_envelope(tenant="a", type="x", key="k", payload=b"")])
    await log.close()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"events_password_file": None}, "events_password_file"),
        ({"events_user": ""}, "events_user"),
        ({"events_cert_key_file": None}, "events_cert_key_file"),
    ],
)
def test_settings_that_go_together_are_asked_for_together(
    guarded: GuardedKafka, shown: Shown, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        open_event_log("kafkas://host:9092", access=guarded.settings(shown, **changed))


def test_certificates_are_for_tls(guarded: GuardedKafka, shown: Shown) -> None:
    with pytest.raises(InvalidInput, match="kafkas://"):
        open_event_log("kafka://host:9092", access=guarded.settings(shown))


def test_a_file_that_holds_no_certificate_is_said_to_be_none(
    guarded: GuardedKafka, shown: Shown, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    with pytest.raises(InvalidInput, match=r"events_ca_file: .*PEM"):
        open_event_log("kafkas://host:9092", access=guarded.settings(shown, events_ca_file=nothing))
