"""What the event log on Kafka promises beyond the port's contract: shared partitions, odd records, a broker that is away."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource

from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.events.log import Envelope, EventLog, new_envelope, open_event_log
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster

GROUP = "eaters"


@pytest.fixture
def topic() -> str:
    return f"brain.kitchen-{uuid.uuid4().hex}.v1"


@pytest.fixture
def url(cluster: ClusterServers) -> str:
    return f"kafka://{cluster.kafka}?partitions=4"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[EventLog]:
    log = open_event_log(url)
    yield log
    await log.close()


def events(count: int) -> list[Envelope]:
    return [
        new_envelope(tenant="acme", type="cooked", key=f"dish-{number % 20}", payload=str(number).encode())
        for number in range(count)
    ]


class Eater:
    """Reads and commits until nothing has come for a while."""

    def __init__(self, log: EventLog, topic: str) -> None:
        self.log = log
        self.topic = topic
        self.eaten: list[Envelope] = []
        self.partitions: set[int] = set()

    async def run(self, *, limit: int = 5) -> None:
        while True:
            records = await self.log.read(self.topic, GROUP, limit=limit, wait_s=1)
            for record in records:
                self.eaten.append(record.envelope)
                self.partitions.add(record.partition)
                await self.log.commit(GROUP, record)


async def until(true: object, *, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.05)


async def test_members_of_a_group_share_the_partitions_and_one_takes_over_from_the_other(url: str, topic: str) -> None:
    sent = events(200)
    async with opened(url) as writer, opened(url) as one, opened(url) as two:
        await writer.publish(topic, [])
        first, second = Eater(one, topic), Eater(two, topic)
        reading = [asyncio.create_task(eater.run()) for eater in (first, second)]
        await writer.publish(topic, sent[:20])
        # Both have joined when each has had something; until then whoever came first holds everything.
        async with asyncio.timeout(60):
            while not (first.partitions and second.partitions):
                await writer.publish(topic, events(20))
                await asyncio.sleep(0.3)
        first.partitions.clear()
        second.partitions.clear()
        await writer.publish(topic, sent[20:120])
        wanted = {event.event_id for event in sent[:120]}
        await until(lambda: wanted <= {event.event_id for event in first.eaten + second.eaten})
        assert first.partitions.isdisjoint(second.partitions)
        # One goes for good: the other reads everything.
        reading[0].cancel()
        await one.close()
        await writer.publish(topic, sent[120:])
        rest = {event.event_id for event in sent[120:]}
        await until(lambda: rest <= {event.event_id for event in second.eaten})
        reading[1].cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    in_order = [int(event.payload) for event in second.eaten if event.event_id in rest and event.key == "dish-0"]
    assert in_order == sorted(in_order)


async def test_a_commit_of_what_another_member_holds_now_takes_nothing_back(url: str, topic: str) -> None:
    sent = events(40)
    async with opened(url) as writer, opened(url) as slow, opened(url) as quick:
        await writer.publish(topic, sent)
        held = await slow.read(topic, GROUP, limit=40, wait_s=10)
        assert held
        # The slow one is put out of the group, as whoever stops reading is.
        await slow.close()
        eater = Eater(quick, topic)
        reading = asyncio.create_task(eater.run(limit=40))
        await until(lambda: {event.event_id for event in sent} <= {event.event_id for event in eater.eaten})
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        async with opened(url) as late:
            for record in held[:1]:
                await late.commit(GROUP, record)
            assert await late.lag(topic, GROUP) == 0


async def test_a_record_that_is_no_envelope_goes_to_the_dead_letters_and_nobody_waits(
    cluster: ClusterServers, url: str, topic: str
) -> None:
    good = events(1)[0]
    async with opened(url) as log:
        await log.publish(topic, [good])
        producer = KafkaProducer(bootstrap_servers=[cluster.kafka])
        for value, headers in (
            (b"\xff\xfe not ours", []),
            (b"", [("tenant", b"\xff"), ("event_id", b"1")]),
            (None, [("occurred_at", b"yesterday")]),
        ):
            producer.send(topic, key=b"k", value=value, headers=headers).get(timeout=30)
        producer.close()
        last = events(1)[0]
        await log.publish(topic, [last])
        found: set[str] = set()
        async with asyncio.timeout(60):
            while found != {good.event_id, last.event_id}:
                for record in await log.read(topic, GROUP, limit=10, wait_s=1):
                    found.add(record.envelope.event_id)
                    await log.commit(GROUP, record)
        async with asyncio.timeout(60):
            while await log.lag(topic, GROUP):
                await log.read(topic, GROUP, limit=10, wait_s=1)
        # They are kept as they came, for whoever looks into it; reading them as envelopes would bury them once more.
        assert await log.lag(f"{topic}.dlt", "undertaker") == 3


async def test_a_record_that_is_no_envelope_takes_nothing_with_it_that_nobody_committed(
    cluster: ClusterServers, topic: str
) -> None:
    url = f"kafka://{cluster.kafka}?partitions=1"
    [good] = events(1)
    async with opened(url) as log:
        await log.publish(topic, [good])
        producer = KafkaProducer(bootstrap_servers=[cluster.kafka])
        producer.send(topic, key=b"k", value=b"not ours").get(timeout=30)
        producer.close()
        [record] = await log.read(topic, GROUP, limit=10, wait_s=0)
        assert record.envelope == good
    # Who read it was ended before the work was done.
    async with opened(url) as log:
        [record] = await log.read(topic, GROUP, limit=10, wait_s=0)
        assert record.envelope == good
        await log.commit(GROUP, record)
        assert await log.read(topic, GROUP, limit=10, wait_s=0) == []
        assert await log.lag(topic, GROUP) == 0
        assert await log.lag(f"{topic}.dlt", "undertaker") == 1


async def test_installations_with_prefixes_of_their_own_share_brokers_and_nothing_else(
    cluster: ClusterServers, topic: str
) -> None:
    here, there = (f"kafka://{cluster.kafka}?prefix={name}" for name in ("here.", "there."))
    sent, other = events(1)[0], events(1)[0]
    async with opened(here) as one, opened(there) as two:
        await one.publish(topic, [sent])
        await two.publish(topic, [other])
        [record] = await one.read(topic, GROUP, limit=10, wait_s=0)
        assert (record.topic, record.envelope) == (topic, sent)
        await one.dead_letter(record, "inedible")
        await one.commit(GROUP, record)
        assert await one.lag(topic, GROUP) == 0
        assert await two.lag(topic, GROUP) == 1
        [dead] = await one.read(f"{topic}.dlt", "undertaker", wait_s=0)
        assert (dead.topic, dead.envelope) == (f"{topic}.dlt", sent)


async def test_a_compacted_topic_is_made_as_one_and_others_keep_their_records_for_a_while(
    cluster: ClusterServers, url: str, topic: str
) -> None:
    log = open_event_log(url, compacted=[topic])
    await log.publish(topic, events(1))
    await log.publish(f"{topic}.plain", events(1))
    await log.close()
    admin = KafkaAdminClient(bootstrap_servers=[cluster.kafka])
    try:
        described = {one["name"]: one for one in admin.describe_topics([topic, f"{topic}.plain"])}
        assert len(described[topic]["partitions"]) == 1
        assert len(described[f"{topic}.plain"]["partitions"]) == 4
        policies = [
            admin.describe_configs([ConfigResource("TOPIC", name)], config_filter="all")
            for name in (topic, f"{topic}.plain")
        ]
        assert "compact" in str(policies[0])
        assert "'cleanup.policy': {'value': 'compact'" not in str(policies[1])
    finally:
        admin.close()


# The library leaves sockets that never connected to the garbage collector, which closes them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_is_away_is_said_to_be_soon(topic: str, unused_tcp_port: int) -> None:
    log = open_event_log(f"kafka://127.0.0.1:{unused_tcp_port}")
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await log.publish(topic, events(1))
        with pytest.raises(Unavailable):
            await log.read(topic, GROUP, wait_s=1)
        with pytest.raises(Unavailable):
            await anext(log.replay(topic))
    await log.close()


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("", "HOST:PORT"),
        ("host:port", "host:port"),
        ("a:1,b:99999", "b:99999"),
        ("a:1?partitions=0", "partitions"),
        ("a:1?replication=many", "replication"),
        ("a:1?acks=0", "acks"),
        ("a:1?prefix=a%20b", "prefix"),
        ("a:1/topic", "HOST:PORT"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_by_name(rest: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        open_event_log(f"kafka://{rest}")
