"""Addresses that are told when jobs end, and the telling."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import NotFound, Unavailable
from services.chassis.ids import new_id
from services.finetuning.domain.webhooks import (
    MOST_WEBHOOKS,
    Delivery,
    DeliveryState,
    Webhook,
    checked_events,
    message_body,
    message_headers,
    settled,
    webhook_secret,
)
from services.finetuning.ports.webhooks import WebhookSender, WebhookStore

__all__ = ["DeliverWebhooks", "Webhooks"]

# Longer than any try takes: a holder that is silent for this long is dead.
_LEASE_S: Final = 60.0

_log = structlog.get_logger()


class Webhooks:
    """Keeps, shows and forgets a tenant's addresses.

    Args:
        store: Where they are kept.
        sender: Knows what can be called.
        secret: The room's secret, of which every address's own is made.
        now: Seconds since 1970.
    """

    def __init__(
        self, *, store: WebhookStore, sender: WebhookSender, secret: bytes, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._sender = sender
        self._secret = secret
        self._now = now

    async def create(self, caller: Caller, *, url: str, events: Sequence[str]) -> tuple[Webhook, str]:
        """Keep an address; return it with its secret, which is never told again.

        Raises:
            InvalidInput: The address cannot be called, or there is no such event.
            Conflict: The tenant has as many as it may.
        """
        wanted = checked_events(events)
        await self._sender.check(url)
        webhook = Webhook(
            webhook_id=new_id("wh_"),
            tenant=caller.tenant,
            owner=caller.subject,
            url=url,
            events=wanted,
            created_at=self._now(),
        )
        await self._store.add(webhook, most=MOST_WEBHOOKS)
        _log.info("webhook_created", webhook_id=webhook.webhook_id, tenant=caller.tenant)
        return webhook, webhook_secret(self._secret, webhook.webhook_id)

    async def list(self, caller: Caller) -> Sequence[Webhook]:
        """Return the tenant's addresses, oldest first."""
        return await self._store.of_tenant(caller.tenant)

    async def delete(self, caller: Caller, webhook_id: str) -> None:
        """Forget an address; what was on its way to it is told no more.

        Raises:
            NotFound: The tenant has no such address.
        """
        if not await self._store.remove(caller.tenant, webhook_id):
            raise NotFound(f"webhook_id: there is no webhook {webhook_id[:100]!r}.", param="webhook_id")
        _log.info("webhook_deleted", webhook_id=webhook_id, tenant=caller.tenant)


class DeliverWebhooks:
    """Tells addresses what is due, several at a time, so that one that is slow holds up no other.

    Args:
        store: What is due.
        sender: Calls.
        secret: The room's secret.
        count: Called with the state that each try led to, for the metrics.
        concurrency: Deliveries at a time.
        poll_s: How often to look without being woken.
        now: Seconds since 1970.
        spread: Draws from 0 to 1.
    """

    def __init__(
        self,
        *,
        store: WebhookStore,
        sender: WebhookSender,
        secret: bytes,
        count: Callable[[DeliveryState], None],
        concurrency: int = 4,
        poll_s: float = 2.0,
        now: Callable[[], float] = time.time,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._sender = sender
        self._secret = secret
        self._count = count
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._now = now
        self._spread = spread
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()

    def wake(self) -> None:
        """Look now: a job has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled; while the database is away, wait and try again."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work())

    async def deliver_one(self) -> bool:
        """Make one try that is due; return whether there was one.

        Raises:
            Unavailable: The database is away; the delivery is tried again.
        """
        delivery = await self._store.claim(now=self._now(), lease_s=_LEASE_S)
        if delivery is not None:
            await self._deliver(delivery)
        return delivery is not None

    async def _work(self) -> None:
        while True:
            # One looks for all that have nothing to do.
            async with self._looking:
                delivery = await self._due()
            try:
                await self._deliver(delivery)
            except Unavailable as error:
                _log.warning("webhooks_wait", reason=error.message)

    async def _due(self) -> Delivery:
        """Return the next delivery, as soon as one is due."""
        while True:
            self._woken.clear()
            try:
                delivery = await self._store.claim(now=self._now(), lease_s=_LEASE_S)
            except Unavailable as error:
                _log.warning("webhooks_wait", reason=error.message)
                delivery = None
            if delivery is not None:
                return delivery
            with contextlib.suppress(TimeoutError):
                # Jittered, so that several rooms do not look in the same moment. Not `wait_for`: before Python 3.12 it
                # loses a cancellation that comes together with the event.
                async with asyncio.timeout(self._poll_s * random.uniform(0.5, 1.5)):  # noqa: S311
                    await self._woken.wait()

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one try and note what came of it."""
        body = message_body(delivery)
        secret = webhook_secret(self._secret, delivery.webhook_id)
        headers = message_headers(delivery, body, secret=secret, now=self._now())
        answer = await self._sender.send(delivery.url, headers, body)
        settlement = settled(delivery, answer, now=self._now(), spread=self._spread())
        if await self._store.settle(delivery, settlement):
            self._count(settlement.state)
            _log.info(
                "webhook_tried",
                webhook_id=delivery.webhook_id,
                event_id=delivery.event_id,
                attempt=delivery.attempt,
                status=answer.status,
                state=settlement.state.value,
            )
