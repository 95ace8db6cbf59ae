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


def event(key: str, payload: bytes = b"") -> Envelope:
    return new_envelope(tenant="acme", type="cooked", key=key, payload=payload)


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
