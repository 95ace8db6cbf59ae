"""The room's part of an installation, brought into step with a place where nobody has heard of adapters."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import end_leases
from services.chassis.moving.part import Arrival
from services.finetuning.backends import tables
from services.finetuning.backends.facts import ADAPTER_TOPIC, adapter_fact, alias_fact, promotion_fact
from services.finetuning.backends.records import ADAPTERS, ALIASES, PROMOTIONS
from services.finetuning.domain.promotions import PromotionState

__all__ = ["settle"]


async def settle(connection: AsyncConnection, _arrival: Arrival) -> None:
    """End the leases of workers, and announce every adapter and alias with the revision that it has.

    The engines of a new place know of adapters only what stands in the log, which is empty there.
    """
    await end_leases(connection, tables.jobs)
    box = Outbox(tables.outbox)
    adapters = await connection.execute(select(tables.adapters.c.record).order_by(tables.adapters.c.created_at))
    aliases = await connection.execute(select(tables.aliases.c.record).order_by(tables.aliases.c.alias))
    waiting = tables.promotions.c.state == PromotionState.GATED.value
    promotions = await connection.execute(
        select(tables.promotions.c.record).where(waiting).order_by(tables.promotions.c.promotion_id)
    )
    # Adapters first: an alias leads to one.
    facts = [
        *(adapter_fact(ADAPTERS.validate_python(row.record)) for row in adapters),
        *(alias_fact(ALIASES.validate_python(row.record)) for row in aliases),
        *(promotion_fact(PROMOTIONS.validate_python(row.record)) for row in promotions),
    ]
    for fact in facts:
        await box.add(connection, ADAPTER_TOPIC, fact)
