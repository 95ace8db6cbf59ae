import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import MetaData, select, text

from services.chassis.database import Database
from services.chassis.errors import BrainError, InvalidInput, Unavailable
from services.chassis.events import sqlite
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import Envelope, EventLog, new_envelope, open_event_log
from services.chassis.events.outbox import Outbox, OutboxRelay, outbox_table
from tests.fresh_databases import make_tables

TOPIC = "brain.kitchen.v1"
metadata = MetaData()
TABLE = outbox_table(metadata)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    opened = open_event_log(f"sqlite:///{tmp_path}/events.db")
    yield opened
    await opened.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await make_tables(opened, metadata)
    async with opened.begin() as connection:
        await connection.execute(text("create table dishes (name text)"))
    yield opened
    await opened.close()


def event(key: str) -> Envelope:
    return new_envelope(tenant="acme", type="cooked", key=key, payload=b"")


async def test_the_outbox_holds_what_the_transaction_holds(database: Database, log: EventLog) -> None:
    outbox, relay = Outbox(TABLE), OutboxRelay(database=database, table=TABLE, log=log)
    with pytest.raises(RuntimeError):
        async with database.begin() as connection:
            await outbox.add(connection, TOPIC, event("spilled"))
            raise RuntimeError
    sent = event("served")
    async with database.begin() as connection:
        await connection.execute(text("insert into dishes values ('served')"))
        await outbox.add(connection, TOPIC, sent)
    assert await relay.relay_once() == 1
    assert await relay.relay_once() == 0
    assert [record.envelope for record in await log.read(TOPIC, "g", limit=9, wait_s=0)] == [sent]


async def test_a_relay_that_dies_before_the_mark_publishes_again(
    database: Database, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, relay = Outbox(TABLE), OutboxRelay(database=database, table=TABLE, log=log)
    async with database.begin() as connection:
        await outbox.add(connection, TOPIC, event("served"))

    def dies() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "begin", dies)
        with pytest.raises(KeyboardInterrupt):
            await relay.relay_once()
    await relay.relay_once()
    records = await log.read(TOPIC, "g", limit=9, wait_s=0)
    assert len({record.envelope.event_id for record in records}) == 1
    assert len(records) == 2
    async with database.connect() as connection:
        assert (await connection.execute(select(TABLE))).all() == []


class Kitchen:
    """Eats what it is given, chokes on `bad`, and needs two tries for `slow`."""

    def __init__(self) -> None:
        self.eaten: list[str] = []
        self.batches: list[int] = []
        self.dead: list[str] = []
        self.tries = 0

    async def handle(self, envelope: Envelope) -> None:
        if envelope.key == "bad":
            raise InvalidInput("inedible")
        if envelope.key == "slow":
            self.tries += 1
            if self.tries < 2:
                raise Unavailable("the oven is cold")
        self.eaten.append(envelope.key)

    async def handle_batch(self, envelopes: Sequence[Envelope]) -> None:
        if any(envelope.key == "bad" for envelope in envelopes):
            raise InvalidInput("inedible")
        self.batches.append(len(envelopes))
        self.eaten += [envelope.key for envelope in envelopes]

    async def on_dead(self, envelope: Envelope, error: BrainError) -> None:
        self.dead.append(f"{envelope.key}: {error.message}")


async def test_the_consumer_retries_what_passes_and_buries_what_does_not(log: EventLog) -> None:
    kitchen = Kitchen()
    counter = Counter("dead_letters", "Dead.", ["topic"], registry=CollectorRegistry())
    consumer = EventConsumer(
        log, topic=TOPIC, group="g", handle=kitchen.handle, on_dead=kitchen.on_dead, dead_letters=counter
    )
    await log.publish(TOPIC, [event("slow"), event("bad"), event("good")])
    for _ in range(3):
        await consumer.step(wait_s=0)
    assert kitchen.eaten == ["slow", "good"]
    assert kitchen.dead == ["bad: inedible"]
    assert await log.lag(TOPIC, "g") == 0
    assert await log.lag(f"{TOPIC}.dlt", "undertaker") == 1
    assert counter.labels(topic=TOPIC)._value.get() == 1


async def test_a_batch_with_one_bad_event_loses_only_that_one(log: EventLog) -> None:
    kitchen = Kitchen()
    consumer = EventConsumer(
        log,
        topic=TOPIC,
        group="g",
        handle=kitchen.handle,
        on_dead=kitchen.on_dead,
        handle_batch=kitchen.handle_batch,
        batch=3,
    )
    await log.publish(TOPIC, [event(key) for key in ("a", "b", "c", "d", "bad", "e")])
    assert await consumer.step(wait_s=0) == 3
    assert kitchen.batches == [3]
    assert await consumer.step(wait_s=0) == 3
    assert kitchen.eaten == ["a", "b", "c", "d", "e"]
    assert kitchen.dead == ["bad: inedible"]
    assert await log.lag(TOPIC, "g") == 0


@pytest.mark.parametrize("replays", [False, True])
async def test_a_write_that_shows_before_it_can_be_read_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replays: bool
) -> None:
    # Only the look after a change may find it: neither the next change nor the regular look comes to help.
    monkeypatch.setattr(sqlite, "_ASK_ANYWAY_S", 3600.0)
    reader, writer = (sqlite.SqliteEventLog(f"{tmp_path}/events.db") for _ in range(2))
    looks = iter([(0, 0)])
    monkeypatch.setattr(reader, "_written", lambda: (next(looks, (1, 1)),))
    heard: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        if replays:
            async for record in reader.replay(TOPIC):
                heard.set_result(record.envelope)
                return
        (record,) = await reader.read(TOPIC, "g", wait_s=3600)
        heard.set_result(record.envelope)

    asked, original = 0, reader._database.connect

    def connect() -> Any:
        nonlocal asked
        asked += 1
        return original()

    monkeypatch.setattr(reader._database, "connect", connect)
    reading = asyncio.create_task(read())
    while asked < (3 if replays else 2):
        await asyncio.sleep(0.001)
    sent = event("late")
    await writer.publish(TOPIC, [sent])
    assert await heard == sent
    await reading
    await reader.close()
    await writer.close()
