"""What every back end of the event log promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.events.log import Envelope, EventLog, new_envelope, open_event_log
from tests.cluster_servers import ClusterServers


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.cluster)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    servers: ClusterServers = request.getfixturevalue("cluster")
    return f"kafka://{servers.kafka}?partitions=3"


@pytest.fixture
def topic() -> str:
    """A topic of the test's own: one server serves all tests."""
    return f"brain.kitchen-{uuid.uuid4().hex}.v1"


@pytest.fixture
async def log(url: str) -> AsyncIterator[EventLog]:
    opened = open_event_log(url)
    yield opened
    await opened.close()


@pytest.fixture
async def compacted(url: str, topic: str) -> AsyncIterator[EventLog]:
    opened = open_event_log(url, compacted=[topic])
    yield opened
    await opened.close()


def event(key: str, payload: bytes = b"", *, tenant: str = "acme") -> Envelope:
    return new_envelope(tenant=tenant, type="cooked", key=key, payload=payload)


async def test_a_group_reads_in_order_from_its_last_commit(log: EventLog, topic: str) -> None:
    events = [event("dish", bytes([number])) for number in range(5)]
    await log.publish(topic, events)
    first = await log.read(topic, "eaters", limit=3, wait_s=0)
    assert [record.envelope for record in first] == events[:3]
    await log.commit("eaters", first[1])
    again = await log.read(topic, "eaters", limit=10, wait_s=0)
    assert [record.envelope for record in again] == events[2:]
    assert await log.lag(topic, "eaters") == 3


async def test_groups_and_topics_do_not_disturb_each_other(log: EventLog, topic: str) -> None:
    await log.publish(topic, [event("dish")])
    [record] = await log.read(topic, "eaters", wait_s=0)
    await log.commit("eaters", record)
    assert await log.read(topic, "eaters", wait_s=0) == []
    assert len(await log.read(topic, "cleaners", wait_s=0)) == 1
    assert await log.read(f"{topic}.other", "eaters", wait_s=0) == []


async def test_a_late_commit_does_not_go_back(log: EventLog, topic: str) -> None:
    await log.publish(topic, [event("a"), event("a")])
    first, second = await log.read(topic, "eaters", limit=2, wait_s=0)
    await log.commit("eaters", second)
    await log.commit("eaters", first)
    assert await log.lag(topic, "eaters") == 0


async def test_a_waiting_reader_hears_what_comes(log: EventLog, topic: str) -> None:
    reading = asyncio.create_task(log.read(topic, "eaters", wait_s=30))
    await asyncio.sleep(0.1)
    sent = event("dish")
    await log.publish(topic, [sent])
    [record] = await reading
    assert record.envelope == sent


async def test_replay_gives_the_newest_of_each_key_and_goes_on(compacted: EventLog, topic: str) -> None:
    old, other, new, late = event("a", b"old"), event("b"), event("a", b"new"), event("a", b"late")
    await compacted.publish(topic, [old, other, new])
    replay = compacted.replay(topic)
    assert [(await anext(replay)).envelope for _ in range(2)] == [other, new]
    await compacted.publish(topic, [late])
    assert (await anext(replay)).envelope == late


async def test_replay_keeps_the_newest_of_each_tenants_key(compacted: EventLog, topic: str) -> None:
    old, foreign, new = event("a", b"old"), event("a", b"foreign", tenant="globex"), event("a", b"new")
    await compacted.publish(topic, [old, foreign, new])
    await compacted.publish(f"{topic}.other", [event("a", b"of another topic")])
    replay = compacted.replay(topic)
    assert [(await anext(replay)).envelope for _ in range(2)] == [foreign, new]


async def test_replay_says_when_what_was_there_at_the_start_is_done(compacted: EventLog, topic: str) -> None:
    await compacted.publish(topic, [event("a"), event("b"), event("a")])
    caught_up = asyncio.Event()
    handled: list[str] = []

    async def read() -> None:
        async for record in compacted.replay(topic, caught_up=caught_up):
            assert not caught_up.is_set() or len(handled) >= 2
            handled.append(record.envelope.key)

    reading = asyncio.create_task(read())
    async with asyncio.timeout(30):
        await caught_up.wait()
        # The last of them was handled, not only handed out.
        assert sorted(handled) == ["a", "b"]
        await compacted.publish(topic, [event("c")])
        while len(handled) < 3:
            await asyncio.sleep(0.01)
    reading.cancel()


async def test_replay_of_an_empty_topic_is_done_at_once(compacted: EventLog, topic: str) -> None:
    caught_up = asyncio.Event()
    replay = compacted.replay(topic, caught_up=caught_up)
    waiting = asyncio.ensure_future(anext(replay))
    async with asyncio.timeout(30):
        await caught_up.wait()
        sent = event("first")
        await compacted.publish(topic, [sent])
        assert (await waiting).envelope == sent


async def test_whoever_reads_can_be_ended_just_when_something_comes(compacted: EventLog, topic: str) -> None:
    async def replay() -> None:
        async for _ in compacted.replay(topic):
            pass

    async def read() -> None:
        while True:
            for record in await compacted.read(topic, "eaters", wait_s=30):
                await compacted.commit("eaters", record)

    for reader in (replay, read):
        # A few turns of the loop later or earlier: each finds the reader at another place.
        for turns in range(4):
            reading = asyncio.create_task(reader())
            await asyncio.sleep(0.1)
            await compacted.publish(topic, [event("a")])
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            _, left = await asyncio.wait([reading], timeout=10)
            assert not left


async def test_every_replay_begins_at_the_start(compacted: EventLog, topic: str) -> None:
    await compacted.publish(topic, [event("a"), event("b")])
    for _ in range(2):
        replay = compacted.replay(topic)
        assert [(await anext(replay)).envelope.key for _ in range(2)] == ["a", "b"]


async def test_dead_letters_keep_the_envelope(log: EventLog, topic: str) -> None:
    await log.publish(topic, [event("dish")])
    [record] = await log.read(topic, "eaters", wait_s=0)
    await log.dead_letter(record, "inedible")
    [dead] = await log.read(f"{topic}.dlt", "undertaker", wait_s=0)
    assert dead.envelope == record.envelope


async def test_what_is_published_outlives_the_process_that_did(url: str, topic: str) -> None:
    first = open_event_log(url)
    await first.publish(topic, [event("dish")])
    await first.close()
    second = open_event_log(url)
    assert len(await second.read(topic, "eaters", wait_s=0)) == 1
    await second.close()


async def test_what_nobody_committed_comes_again_to_the_next_process(url: str, topic: str) -> None:
    first = open_event_log(url)
    events = [event("dish", bytes([number])) for number in range(3)]
    await first.publish(topic, events)
    records = await first.read(topic, "eaters", limit=3, wait_s=0)
    await first.commit("eaters", records[0])
    await first.close()
    second = open_event_log(url)
    again = await second.read(topic, "eaters", limit=3, wait_s=0)
    assert [record.envelope for record in again] == events[1:]
    await second.close()
