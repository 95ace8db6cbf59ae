"""What every back end of the event log promises."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.events.log import Envelope, EventLog, new_envelope, open_event_log

TOPIC = "brain.kitchen.v1"


@pytest.fixture(params=["sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    opened = open_event_log(f"{request.param}:///{tmp_path}/events.db")
    yield opened
    await opened.close()


def event(key: str, payload: bytes = b"", *, tenant: str = "acme") -> Envelope:
    return new_envelope(tenant=tenant, type="cooked", key=key, payload=payload)


async def test_a_group_reads_in_order_from_its_last_commit(log: EventLog) -> None:
    events = [event(f"dish-{number}", bytes([number])) for number in range(5)]
    await log.publish(TOPIC, events)
    first = await log.read(TOPIC, "eaters", limit=3, wait_s=0)
    assert [record.envelope for record in first] == events[:3]
    await log.commit("eaters", first[1])
    again = await log.read(TOPIC, "eaters", limit=10, wait_s=0)
    assert [record.envelope for record in again] == events[2:]
    assert await log.lag(TOPIC, "eaters") == 3


async def test_groups_and_topics_do_not_disturb_each_other(log: EventLog) -> None:
    await log.publish(TOPIC, [event("dish")])
    [record] = await log.read(TOPIC, "eaters", wait_s=0)
    await log.commit("eaters", record)
    assert await log.read(TOPIC, "eaters", wait_s=0) == []
    assert len(await log.read(TOPIC, "cleaners", wait_s=0)) == 1
    assert await log.read("brain.other.v1", "eaters", wait_s=0) == []


async def test_a_late_commit_does_not_go_back(log: EventLog) -> None:
    await log.publish(TOPIC, [event("a"), event("b")])
    first, second = await log.read(TOPIC, "eaters", limit=2, wait_s=0)
    await log.commit("eaters", second)
    await log.commit("eaters", first)
    assert await log.lag(TOPIC, "eaters") == 0


async def test_a_waiting_reader_hears_what_comes(log: EventLog) -> None:
    reading = asyncio.create_task(log.read(TOPIC, "eaters", wait_s=30))
    await asyncio.sleep(0.1)
    sent = event("dish")
    await log.publish(TOPIC, [sent])
    [record] = await reading
    assert record.envelope == sent


async def test_replay_gives_the_newest_of_each_key_and_goes_on(log: EventLog) -> None:
    old, other, new, late = event("a", b"old"), event("b"), event("a", b"new"), event("a", b"late")
    await log.publish(TOPIC, [old, other, new])
    replay = log.replay(TOPIC)
    assert [(await anext(replay)).envelope for _ in range(2)] == [other, new]
    await log.publish(TOPIC, [late])
    assert (await anext(replay)).envelope == late


async def test_replay_keeps_the_newest_of_each_tenants_key(log: EventLog) -> None:
    old, foreign, new = event("a", b"old"), event("a", b"foreign", tenant="globex"), event("a", b"new")
    await log.publish(TOPIC, [old, foreign, new])
    await log.publish("brain.other.v1", [event("a", b"of another topic")])
    replay = log.replay(TOPIC)
    assert [(await anext(replay)).envelope for _ in range(2)] == [foreign, new]


async def test_replay_says_when_what_was_there_at_the_start_is_done(log: EventLog) -> None:
    await log.publish(TOPIC, [event("a"), event("b"), event("a")])
    caught_up = asyncio.Event()
    handled: list[str] = []

    async def read() -> None:
        async for record in log.replay(TOPIC, caught_up=caught_up):
            assert not caught_up.is_set() or len(handled) >= 2
            handled.append(record.envelope.key)

    reading = asyncio.create_task(read())
    async with asyncio.timeout(30):
        await caught_up.wait()
        # The last of them was handled, not only handed out.
        assert sorted(handled) == ["a", "b"]
        await log.publish(TOPIC, [event("c")])
        while len(handled) < 3:
            await asyncio.sleep(0.01)
    reading.cancel()


async def test_replay_of_an_empty_topic_is_done_at_once(log: EventLog) -> None:
    caught_up = asyncio.Event()
    replay = log.replay(TOPIC, caught_up=caught_up)
    waiting = asyncio.ensure_future(anext(replay))
    async with asyncio.timeout(30):
        await caught_up.wait()
        sent = event("first")
        await log.publish(TOPIC, [sent])
        assert (await waiting).envelope == sent


async def test_whoever_reads_can_be_ended_just_when_something_comes(log: EventLog) -> None:
    async def replay() -> None:
        async for _ in log.replay(TOPIC):
            pass

    async def read() -> None:
        while True:
            for record in await log.read(TOPIC, "eaters", wait_s=30):
                await log.commit("eaters", record)

    for reader in (replay, read):
        # A few turns of the loop later or earlier: each finds the reader at another place.
        for turns in range(4):
            reading = asyncio.create_task(reader())
            await asyncio.sleep(0.1)
            await log.publish(TOPIC, [event("a")])
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            _, left = await asyncio.wait([reading], timeout=10)
            assert not left


async def test_every_replay_begins_at_the_start(log: EventLog) -> None:
    await log.publish(TOPIC, [event("a"), event("b")])
    for _ in range(2):
        replay = log.replay(TOPIC)
        assert [(await anext(replay)).envelope.key for _ in range(2)] == ["a", "b"]


async def test_dead_letters_keep_the_envelope(log: EventLog) -> None:
    await log.publish(TOPIC, [event("dish")])
    [record] = await log.read(TOPIC, "eaters", wait_s=0)
    await log.dead_letter(record, "inedible")
    [dead] = await log.read(f"{TOPIC}.dlt", "undertaker", wait_s=0)
    assert dead.envelope == record.envelope


async def test_what_is_published_outlives_the_process_that_did(tmp_path: Path) -> None:
    first = open_event_log(f"sqlite:///{tmp_path}/events.db")
    await first.publish(TOPIC, [event("dish")])
    await first.close()
    second = open_event_log(f"sqlite:///{tmp_path}/events.db")
    assert len(await second.read(TOPIC, "eaters", wait_s=0)) == 1
    await second.close()
