"""Addresses and deliveries over the room's database; only the call itself is played."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest
from sqlalchemy import MetaData

from services.chassis.auth import Caller, Role
from services.chassis.database import Database
from services.chassis.errors import Conflict, InvalidInput, NotFound, Unavailable
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.backends.webhook_tables import webhook_tables
from services.finetuning.domain.webhooks import (
    MOST_WEBHOOKS,
    Answer,
    Delivery,
    DeliveryState,
    Settlement,
    WebhookEvent,
    message_body,
    signature,
)
from services.finetuning.usecases.webhooks import DeliverWebhooks, Webhooks
from tests.fresh_databases import make_tables

TINA = Caller("tina", "acme", roles=frozenset({Role.TRAINER}))
STRANGER = Caller("tina", "globex", roles=frozenset({Role.TRAINER}))
SECRET = b"the room's own"
URL = "https://hooks.example.com/brain"
METADATA = MetaData()
TABLES = webhook_tables(METADATA)


@dataclass
class Receiver:
    """Stands for the calls: answers what it is told, and keeps what it heard."""

    answers: list[Answer] = field(default_factory=list)
    heard: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def check(self, url: str) -> None:
        if "inside" in url:
            raise InvalidInput("url: it leads inside.", param="url")

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.heard.append((url, headers, body))
        await self.gate.wait()
        return self.answers.pop(0) if self.answers else Answer(200, "it answered 200")


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    database: Database
    store: SqlWebhookStore
    receiver: Receiver
    clock: Clock
    webhooks: Webhooks
    deliver: DeliverWebhooks
    counted: list[DeliveryState]

    async def end_job(self, job_id: str = "ftjob-1", event: WebhookEvent = WebhookEvent.SUCCEEDED) -> int:
        async with self.database.begin() as connection:
            return await self.store.announce(connection, tenant="acme", event=event, job_id=job_id, now=self.clock.now)

    async def deliver_all(self) -> int:
        made = 0
        while await self.deliver.deliver_one():
            made += 1
        return made

    async def said(self) -> str:
        return (await self.webhooks.list(TINA))[0].last_delivery


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    database = Database(database_url)
    await make_tables(database, METADATA)
    store, receiver, clock, counted = SqlWebhookStore(database, TABLES), Receiver(), Clock(), list[DeliveryState]()
    receiver.gate.set()
    yield House(
        database,
        store,
        receiver,
        clock,
        Webhooks(store=store, sender=receiver, secret=SECRET, now=clock),
        DeliverWebhooks(
            store=store,
            sender=receiver,
            secret=SECRET,
            count=counted.append,
            now=clock,
            spread=lambda: 1.0,
            poll_s=0.01,
        ),
        counted,
    )
    await database.close()


async def test_an_address_is_kept_and_its_secret_is_told_once(house: House) -> None:
    webhook, secret = await house.webhooks.create(TINA, url=URL, events=["fine_tuning.job.failed"])
    assert webhook.webhook_id.startswith("wh_")
    assert secret.startswith("whsec_")
    (listed,) = await house.webhooks.list(TINA)
    assert listed == webhook
    assert (listed.url, listed.owner, listed.events) == (URL, "tina", (WebhookEvent.FAILED,))
    async with house.database.connect() as connection:
        rows = [str(row) for row in await connection.execute(TABLES.webhooks.select())]
    assert not [row for row in rows if secret.removeprefix("whsec_") in row or SECRET.decode() in row]


async def test_an_address_that_must_not_be_called_is_not_kept(house: House) -> None:
    with pytest.raises(InvalidInput, match="leads inside"):
        await house.webhooks.create(TINA, url="https://inside.example/", events=[])
    with pytest.raises(InvalidInput, match="events"):
        await house.webhooks.create(TINA, url=URL, events=["fine_tuning.job.paused"])
    assert await house.webhooks.list(TINA) == []


async def test_a_tenant_has_no_more_addresses_than_it_may(house: House) -> None:
    for _ in range(MOST_WEBHOOKS):
        await house.webhooks.create(TINA, url=URL, events=[])
    with pytest.raises(Conflict, match=f"{MOST_WEBHOOKS} webhooks"):
        await house.webhooks.create(TINA, url=URL, events=[])
    await house.webhooks.create(STRANGER, url=URL, events=[])


async def test_an_address_belongs_to_its_tenant(house: House) -> None:
    webhook, _ = await house.webhooks.create(TINA, url=URL, events=[])
    assert await house.webhooks.list(STRANGER) == []
    with pytest.raises(NotFound, match=webhook.webhook_id):
        await house.webhooks.delete(STRANGER, webhook.webhook_id)
    await house.webhooks.delete(TINA, webhook.webhook_id)
    with pytest.raises(NotFound):
        await house.webhooks.delete(TINA, webhook.webhook_id)
    assert await house.webhooks.list(TINA) == []


async def test_the_end_of_a_job_is_told_once_with_a_good_signature(house: House) -> None:
    _, secret = await house.webhooks.create(TINA, url=URL, events=[])
    assert await house.end_job() == 1
    assert await house.deliver_all() == 1
    ((url, headers, body),) = house.receiver.heard
    assert url == URL
    message = json.loads(body)
    assert (message["type"], message["data"]) == ("fine_tuning.job.succeeded", {"id": "ftjob-1"})
    assert headers["webhook-id"] == message["id"]
    assert headers["webhook-signature"] == signature(
        secret, message_id=message["id"], timestamp=int(headers["webhook-timestamp"]), body=body
    )
    assert "delivered" in await house.said()
    house.clock.now += 1_000_000
    assert await house.deliver_all() == 0
    assert house.counted == [DeliveryState.DELIVERED]


async def test_only_who_wants_an_event_is_told_and_only_in_its_tenant(house: House) -> None:
    await house.webhooks.create(TINA, url=URL + "/failed", events=["fine_tuning.job.failed"])
    await house.webhooks.create(TINA, url=URL + "/all", events=[])
    await house.webhooks.create(STRANGER, url=URL + "/stranger", events=[])
    assert await house.end_job(event=WebhookEvent.CANCELLED) == 1
    assert await house.end_job("ftjob-2", WebhookEvent.FAILED) == 2
    await house.deliver_all()
    told = [(url.removeprefix(URL), json.loads(body)["data"]["id"]) for url, _, body in house.receiver.heard]
    assert sorted(told) == [("/all", "ftjob-1"), ("/all", "ftjob-2"), ("/failed", "ftjob-2")]


async def test_a_job_whose_end_was_undone_is_told_to_nobody(house: House) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    with pytest.raises(RuntimeError, match="undone"):
        async with house.database.begin() as connection:
            await house.store.announce(
                connection, tenant="acme", event=WebhookEvent.SUCCEEDED, job_id="ftjob-1", now=house.clock.now
            )
            raise RuntimeError("undone")
    assert await house.deliver_all() == 0


async def test_a_delivery_that_fails_is_tried_again_under_the_same_id(house: House) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    house.receiver.answers = [Answer(503, "it answered 503"), Answer(0, "no answer within 10 s")]
    assert await house.deliver_all() == 1
    assert "not delivered in 1 try so far, it answered 503" in await house.said()
    house.clock.now += 5
    assert await house.deliver_all() == 1
    assert "not delivered in 2 tries so far, no answer within 10 s" in await house.said()
    house.clock.now += 5
    assert await house.deliver_all() == 0
    house.clock.now += 5
    assert await house.deliver_all() == 1
    assert len({headers["webhook-id"] for _, headers, _ in house.receiver.heard}) == 1
    assert len({body for _, _, body in house.receiver.heard}) == 1
    assert len({headers["webhook-signature"] for _, headers, _ in house.receiver.heard}) == 3
    assert house.counted == [DeliveryState.PENDING, DeliveryState.PENDING, DeliveryState.DELIVERED]


async def test_a_delivery_is_given_up_after_a_day(house: House) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    house.receiver.answers = [Answer(500, "it answered 500")] * 100
    began = house.clock.now
    while house.clock.now < began + 3 * 86_400:
        await house.deliver_all()
        house.clock.now += 600
    assert house.counted[-1] is DeliveryState.GAVE_UP
    assert house.counted.count(DeliveryState.GAVE_UP) == 1
    assert "given up after" in await house.said()


async def test_what_a_dead_holder_had_is_told_by_the_next_one_and_its_late_word_is_not_taken(house: House) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    lost = await house.store.claim(now=house.clock.now, lease_s=60)
    assert lost is not None
    assert await house.deliver_all() == 0
    house.clock.now += 61
    assert await house.deliver_all() == 1
    assert json.loads(house.receiver.heard[0][2]) == json.loads(message_body(lost))
    assert not await house.store.settle(lost, settled_as(DeliveryState.GAVE_UP))
    assert "delivered" in await house.said()


async def test_one_delivery_is_handed_out_once(house: House) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    found = await asyncio.gather(*(house.store.claim(now=house.clock.now, lease_s=60) for _ in range(6)))
    assert len([one for one in found if one is not None]) == 1


async def test_what_waits_for_an_address_goes_with_it(house: House) -> None:
    webhook, _ = await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    held = await house.store.claim(now=house.clock.now, lease_s=60)
    await house.webhooks.delete(TINA, webhook.webhook_id)
    house.clock.now += 61
    assert await house.deliver_all() == 0
    assert held is not None
    assert not await house.store.settle(held, settled_as(DeliveryState.DELIVERED))


async def test_a_slow_receiver_holds_up_no_other(house: House) -> None:
    for number in range(3):
        await house.webhooks.create(TINA, url=f"{URL}/{number}", events=[])
    house.receiver.gate.clear()
    running = asyncio.create_task(house.deliver.run())
    await house.end_job()
    house.deliver.wake()
    async with asyncio.timeout(30):
        while len(house.receiver.heard) < 3:
            await asyncio.sleep(0.01)
    house.receiver.gate.set()
    async with asyncio.timeout(30):
        while len(house.counted) < 3:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert house.counted == [DeliveryState.DELIVERED] * 3


async def test_deliveries_go_on_when_the_database_is_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.webhooks.create(TINA, url=URL, events=[])
    await house.end_job()
    claim, refusals = house.store.claim, [Unavailable("The database is not available.")] * 3

    async def sometimes(*, now: float, lease_s: float) -> Delivery | None:
        if refusals:
            raise refusals.pop()
        return await claim(now=now, lease_s=lease_s)

    monkeypatch.setattr(house.store, "claim", sometimes)
    running = asyncio.create_task(house.deliver.run())
    async with asyncio.timeout(30):
        while not house.counted:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert refusals == []
    assert house.counted == [DeliveryState.DELIVERED]


def settled_as(state: DeliveryState) -> Settlement:
    return Settlement(state, 0.0, "late words")
