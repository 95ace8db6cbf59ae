"""Addresses and deliveries in the room's database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.errors import Conflict
from services.chassis.ids import new_id
from services.finetuning.backends.webhook_tables import WebhookTables
from services.finetuning.domain.webhooks import Delivery, DeliveryState, Settlement, Webhook, WebhookEvent

__all__ = ["SqlWebhookStore"]


class SqlWebhookStore:
    """A `WebhookStore`, and what puts deliveries into it.

    Args:
        database: The room's database, migrated.
        tables: Its tables.
    """

    def __init__(self, database: Database, tables: WebhookTables) -> None:
        self._database = database
        self._webhooks = tables.webhooks
        self._deliveries = tables.deliveries

    async def announce(
        self, connection: AsyncConnection, *, tenant: str, event: WebhookEvent, job_id: str, now: float
    ) -> int:
        """Note, in the transaction that ends a job, that its tenant's addresses are to be told; return how many are.

        Call `DeliverWebhooks.wake` when the transaction is kept.
        """
        columns = self._webhooks.c
        rows = await connection.execute(select(columns.webhook_id, columns.events).where(columns.tenant == tenant))
        event_id = new_id("evt_")
        waiting = [
            {
                "event_id": event_id,
                "webhook_id": row.webhook_id,
                "event": event.value,
                "job_id": job_id,
                "created_at": now,
                "state": DeliveryState.PENDING.value,
                "attempt": 0,
                "due_at": now,
            }
            for row in rows
            if event.value in row.events
        ]
        if waiting:
            await connection.execute(insert(self._deliveries), waiting)
        return len(waiting)

    async def add(self, webhook: Webhook, *, most: int) -> None:
        """Keep an address.

        Raises:
            Conflict: Its tenant has `most` already.
        """
        columns = self._webhooks.c
        async with self._database.begin(alone=True) as connection:
            count = select(func.count()).select_from(self._webhooks).where(columns.tenant == webhook.tenant)
            if (await connection.execute(count)).scalar_one() >= most:
                raise Conflict(f"The tenant has {most} webhooks, the most it may have; delete one first.")
            await connection.execute(
                insert(self._webhooks).values(
                    webhook_id=webhook.webhook_id,
                    tenant=webhook.tenant,
                    owner=webhook.owner,
                    url=webhook.url,
                    events=[event.value for event in webhook.events],
                    created_at=webhook.created_at,
                    last_delivery=webhook.last_delivery,
                )
            )

    async def of_tenant(self, tenant: str) -> Sequence[Webhook]:
        """Return a tenant's addresses, oldest first."""
        columns = self._webhooks.c
        query = select(self._webhooks).where(columns.tenant == tenant).order_by(columns.webhook_id)
        async with self._database.connect() as connection:
            return [_webhook(row) for row in await connection.execute(query)]

    async def remove(self, tenant: str, webhook_id: str) -> bool:
        """Forget an address and what waits for it; return whether there was one."""
        columns = self._webhooks.c
        mine = and_(columns.webhook_id == webhook_id, columns.tenant == tenant)
        async with self._database.begin() as connection:
            # Deliveries first, as whoever settles one does: in the other order the two would block each other.
            its = select(columns.webhook_id).where(mine)
            await connection.execute(delete(self._deliveries).where(self._deliveries.c.webhook_id.in_(its)))
            removed = await connection.execute(delete(self._webhooks).where(mine))
        return bool(removed.rowcount)

    async def claim(self, *, now: float, lease_s: float) -> Delivery | None:
        """Hand out the delivery that has been due longest; None when none is."""
        columns = self._deliveries.c
        due = and_(columns.state == DeliveryState.PENDING, columns.due_at <= now)
        addressed = self._deliveries.join(self._webhooks, columns.webhook_id == self._webhooks.c.webhook_id)
        query = (
            select(self._deliveries, self._webhooks.c.url)
            .select_from(addressed)
            .where(due)
            .order_by(columns.due_at)
            .limit(1)
        )
        # Looked at outside a write transaction first: an idle worker must not make writers wait.
        async with self._database.connect() as connection:
            if (await connection.execute(query)).first() is None:
                return None
        async with self._database.begin() as connection:
            held = query.with_for_update(of=self._deliveries, skip_locked=True)
            row = (await connection.execute(held)).first()
            if row is None:
                return None
            await connection.execute(
                update(self._deliveries)
                .where(columns.event_id == row.event_id, columns.webhook_id == row.webhook_id)
                .values(attempt=row.attempt + 1, due_at=now + lease_s)
            )
        return Delivery(
            event_id=row.event_id,
            webhook_id=row.webhook_id,
            url=row.url,
            event=WebhookEvent(row.event),
            job_id=row.job_id,
            created_at=row.created_at,
            attempt=row.attempt + 1,
        )

    async def settle(self, delivery: Delivery, settlement: Settlement) -> bool:
        """Note what came of a try; return whether it was still this holder's to note."""
        columns = self._deliveries.c
        async with self._database.begin() as connection:
            noted = await connection.execute(
                update(self._deliveries)
                .where(
                    columns.event_id == delivery.event_id,
                    columns.webhook_id == delivery.webhook_id,
                    columns.attempt == delivery.attempt,
                    columns.state == DeliveryState.PENDING,
                )
                .values(state=settlement.state.value, due_at=settlement.due_at)
            )
            if noted.rowcount == 0:
                return False
            await connection.execute(
                update(self._webhooks)
                .where(self._webhooks.c.webhook_id == delivery.webhook_id)
                .values(last_delivery=settlement.words)
            )
        return True


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        tenant=row.tenant,
        owner=row.owner,
        url=row.url,
        events=tuple(WebhookEvent(event) for event in row.events),
        created_at=row.created_at,
        last_delivery=row.last_delivery,
    )
