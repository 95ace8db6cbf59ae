"""An outbox, a broker that is killed and frozen again and again, and a reader: every event has its effect, once."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update

from services.chassis.database import Database
from services.chassis.errors import BrainError
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import Envelope, new_envelope, open_event_log
from services.chassis.events.outbox import Outbox, OutboxRelay, outbox_table
from tests.cluster.servers.kafka import KafkaServer
from tests.fresh_databases import make_tables

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    # The library leaves sockets that never connected to the garbage collector, which closes them.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOPIC = "brain.kitchen.v1"
EVENTS, KEYS = 500, 20
FREEZES, FROZEN_S = 2, 3.0
KILLS = 3

metadata = MetaData()
OUTBOX = outbox_table(metadata)
SEEN = Table("seen", metadata, Column("event_id", String, primary_key=True))
EATEN = Table("eaten", metadata, Column("key", String, primary_key=True), Column("count", Integer, nullable=False))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path / "kafka")
    server.start()
    yield server
    server.stop()


@dataclass
class Kitchen:
    """Events that are added, told and eaten on a thread of their own, while the test hurts the broker.

    Attributes:
        added: So many are in the outbox, or were.
        delivered: So often one was handed to the reader.
        eaten: So many had their effect.
    """

    url: str
    database: str
    added: int = 0
    delivered: int = 0
    eaten: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        database, log = Database(self.database), open_event_log(f"{self.url}?partitions=3")
        await make_tables(database, metadata)
        async with database.begin() as connection:
            await connection.execute(insert(EATEN), [{"key": f"dish-{key}", "count": 0} for key in range(KEYS)])
        relay = OutboxRelay(database=database, table=OUTBOX, log=log)

        async def eat(envelope: Envelope) -> None:
            self.delivered += 1
            # As rooms do it: what was done before is known in the same transaction that does it.
            async with database.begin() as connection:
                known = await connection.scalar(select(SEEN).where(SEEN.c.event_id == envelope.event_id))
                if known is None:
                    await connection.execute(insert(SEEN).values(event_id=envelope.event_id))
                    await connection.execute(
                        update(EATEN).where(EATEN.c.key == envelope.key).values(count=EATEN.c.count + 1)
                    )
                    self.eaten += 1

        async def on_dead(envelope: Envelope, error: BrainError) -> None:
            raise AssertionError(envelope, error)

        consumer = EventConsumer(log, topic=TOPIC, group="eaters", handle=eat, on_dead=on_dead)
        tasks = [asyncio.create_task(work) for work in (relay.run(), consumer.run(), self._add(database, relay))]
        while not self.is_over.is_set():
            assert not any(task.done() and not task.cancelled() and task.exception() for task in tasks)
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await log.close()
        await database.close()

    async def _add(self, database: Database, relay: OutboxRelay) -> None:
        outbox = Outbox(OUTBOX)
        for number in range(EVENTS):
            event = new_envelope(tenant="acme", type="cooked", key=f"dish-{number % KEYS}", payload=b"")
            async with database.begin() as connection:
                await outbox.add(connection, TOPIC, event)
            self.added += 1
            relay.wake()
            await asyncio.sleep(0.05)


@contextmanager
def cooking(kitchen: Kitchen) -> Iterator[None]:
    thread = threading.Thread(target=lambda: asyncio.run(kitchen.run()))
    thread.start()
    try:
        yield
    finally:
        kitchen.is_over.set()
        thread.join()


def until_eaten(kitchen: Kitchen, count: int) -> None:
    until = time.monotonic() + 120
    while kitchen.eaten < count:
        assert time.monotonic() < until, f"{kitchen.eaten} of {kitchen.added} were eaten, not {count}"
        time.sleep(0.05)


def test_every_event_has_its_effect_once(broker: KafkaServer, tmp_path: Path) -> None:
    kitchen = Kitchen(f"kafka://{broker.address}", f"sqlite:///{tmp_path}/kitchen.db")
    with cooking(kitchen):
        until_eaten(kitchen, 20)
        for _ in range(FREEZES):
            broker.freeze()
            time.sleep(FROZEN_S)
            stood, waiting = kitchen.eaten, kitchen.added
            broker.thaw()
            assert waiting > stood, "the freeze must have bitten"
            until_eaten(kitchen, waiting)
        for _ in range(KILLS):
            broker.kill()
            time.sleep(1)
            stood, waiting = kitchen.eaten, kitchen.added
            broker.start()
            assert waiting > stood, "the kill must have bitten"
            until_eaten(kitchen, waiting)
        until_eaten(kitchen, EVENTS)
    assert (kitchen.added, kitchen.eaten) == (EVENTS, EVENTS)
    assert kitchen.delivered >= EVENTS

    async def counts() -> dict[str, int]:
        database = Database(kitchen.database)
        async with database.connect() as connection:
            rows = await connection.execute(select(EATEN.c.key, EATEN.c.count))
            found = {str(row[0]): int(row[1]) for row in rows}
        await database.close()
        return found

    assert asyncio.run(counts()) == {f"dish-{key}": EVENTS // KEYS for key in range(KEYS)}
