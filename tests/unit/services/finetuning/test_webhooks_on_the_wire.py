"""WebhookService as its callers meet it; no address is called."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData

from brain.finetuning.v1 import webhook_pb2, webhook_pb2_grpc
from services.chassis.auth import ANYONE, Caller, Role, TokenMinter, TokenVerifier, generate_key_pair
from services.chassis.database import Database
from services.chassis.errors import InvalidInput, NotFound
from services.chassis.rpc.client import connect, remote
from services.chassis.rpc.server import RpcServer, methods_of
from services.finetuning.api.webhooks import WebhookServicer
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.backends.webhook_tables import webhook_tables
from services.finetuning.domain.reach import Reach
from services.finetuning.domain.webhooks import Answer, webhook_secret
from services.finetuning.usecases.webhooks import Webhooks
from tests.fresh_databases import make_tables

SERVICE = "brain.finetuning.v1.WebhookService"
METADATA = MetaData()
TABLES = webhook_tables(METADATA)


class NoCalls:
    """Checks how an address is written, and calls none."""

    async def check(self, url: str) -> None:
        Reach().target(url)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        raise AssertionError("not asked")


@dataclass
class House:
    stub: Any
    tokens: Mapping[str, str]

    async def call(self, method: str, request: Any, tenant: str = "acme") -> Any:
        with remote("finetuning", method, token=self.tokens[tenant]) as metadata:
            return await getattr(self.stub, method)(request, timeout=30, metadata=metadata)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    private, public = generate_key_pair()
    database = Database(database_url)
    await make_tables(database, METADATA)
    server = RpcServer(
        room="finetuning",
        listen="127.0.0.1:0",
        policy=dict.fromkeys(methods_of(SERVICE), ANYONE),
        verifier=TokenVerifier([public]),
        registry=CollectorRegistry(),
    )
    webhooks = Webhooks(
        store=SqlWebhookStore(database, TABLES), sender=NoCalls(), secret=b"room", now=lambda: 1_700_000_000.25
    )
    server.add(webhook_pb2_grpc.add_WebhookServiceServicer_to_server, WebhookServicer(webhooks), SERVICE)
    channel = connect(await server.start())
    stub: Any = webhook_pb2_grpc.WebhookServiceStub(channel)
    minter = TokenMinter(private, issuer="gateway")
    trainer = frozenset({Role.TRAINER})
    yield House(stub, {tenant: minter.mint(Caller("tina", tenant, roles=trainer)) for tenant in ("acme", "globex")})
    await channel.close()
    await server.stop(0)
    await database.close()


async def test_an_address_lives_and_goes(house: House) -> None:
    wanted = webhook_pb2.CreateWebhookRequest(url="https://hooks.example.com/x", events=["fine_tuning.job.failed"])
    made = await house.call("CreateWebhook", wanted)
    assert made.secret == webhook_secret(b"room", made.webhook.webhook_id)
    listed = await house.call("ListWebhooks", webhook_pb2.ListWebhooksRequest())
    assert list(listed.webhooks) == [made.webhook]
    assert (made.webhook.url, list(made.webhook.events)) == (wanted.url, ["fine_tuning.job.failed"])
    assert (made.webhook.created_at.seconds, made.webhook.created_at.nanos) == (1_700_000_000, 250_000_000)
    assert made.webhook.last_delivery == ""
    gone = webhook_pb2.DeleteWebhookRequest(webhook_id=made.webhook.webhook_id)
    with pytest.raises(NotFound):
        await house.call("DeleteWebhook", gone, tenant="globex")
    await house.call("DeleteWebhook", gone)
    with pytest.raises(NotFound) as missing:
        await house.call("DeleteWebhook", gone)
    assert missing.value.param == "webhook_id"


async def test_an_address_that_leads_inside_is_refused_by_name(house: House) -> None:
    for url in ("http://hooks.example.com/", "https://169.254.169.254/", ""):
        with pytest.raises(InvalidInput, match=r"^url: ") as refused:
            await house.call("CreateWebhook", webhook_pb2.CreateWebhookRequest(url=url))
        assert refused.value.param == "url"
    with pytest.raises(InvalidInput, match=r"^events: 'x' is not offered"):
        await house.call("CreateWebhook", webhook_pb2.CreateWebhookRequest(url="https://h.example/", events=["x"]))
