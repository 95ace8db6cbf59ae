"""Deletion reaches adapters: what saw a document that went, or that fewer may read, is refused."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from services.finetuning.domain.adapters import (
    AdapterSource,
    AdapterStatus,
    AdapterVersion,
    Policy,
    Withdrawal,
    is_covered,
)
from services.finetuning.ports.records import Change, Ledger
from services.finetuning.usecases.registry import Registry

__all__ = ["Withdraw"]

_log = structlog.get_logger()


class Withdraw:
    """Flags every adapter that saw something which is withdrawn, and does what the policy says.

    Args:
        ledger: Records.
        registry: Blocks adapters.
        policy: What happens to them.
        retrain: Trains a chain again on what remains, where the policy says so.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        policy: Policy,
        retrain: Callable[[AdapterVersion], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._policy = policy
        self._retrain = retrain
        self._now = now

    async def documents(self, tenant: str, withdrawals: Sequence[Withdrawal]) -> list[AdapterVersion]:
        """Refuse what saw one of the documents; return the adapters that are blocked now.

        An adapter that is blocked already stays so and is in the answer. Doing it again changes nothing.
        """
        blocked: list[AdapterVersion] = []
        async with self._ledger.change() as change:
            for withdrawal in withdrawals:
                await change.put_withdrawal(tenant, withdrawal, self._now())
                for version in await change.adapters_of_source(tenant, "document", withdrawal.document_id):
                    if not withdrawal.deleted and is_covered(version, withdrawal.principals):
                        continue
                    await self._flag(change, version, "document", withdrawal.document_id)
                    code = "document_deleted" if withdrawal.deleted else "access_narrowed"
                    said = "deleted" if withdrawal.deleted else "restricted to fewer readers"
                    reason = f"it was trained on {withdrawal.document_id}, which was {said}"
                    kept = await self._apply(change, version, code, reason)
                    if kept is not None:
                        blocked.append(kept)
        await self._end(blocked)
        return blocked

    async def judgement(self, tenant: str, feedback_id: str) -> list[AdapterVersion]:
        """Forget a judgement that was taken back, and refuse what learned from it."""
        blocked: list[AdapterVersion] = []
        async with self._ledger.change() as change:
            await change.withdraw_feedback(tenant, feedback_id, self._now())
            for version in await change.adapters_of_source(tenant, "feedback", feedback_id):
                await self._flag(change, version, "feedback", feedback_id)
                kept = await self._apply(
                    change, version, "feedback_withdrawn", f"it was trained on {feedback_id}, which was taken back"
                )
                if kept is not None:
                    blocked.append(kept)
        await self._end(blocked)
        return blocked

    async def _end(self, blocked: list[AdapterVersion]) -> None:
        await self._registry.withhold(blocked)
        if self._policy is Policy.RETRAIN:
            # Checkpoints come again with their job.
            for version in blocked:
                if not version.step:
                    await self._retrain(version)

    async def _apply(self, change: Change, version: AdapterVersion, code: str, reason: str) -> AdapterVersion | None:
        """Do what the policy says to one adapter; return it when it is blocked."""
        current = await change.adapter(version.tenant, version.name)
        if current is None or current.status is AdapterStatus.DELETED:
            return None
        if current.status is AdapterStatus.BLOCKED:
            return current
        if self._policy is Policy.ACCEPT:
            accepted = replace(current, reason=f"served although {reason}: the room's policy is to accept")
            await change.put_adapter(accepted)
            _log.warning("adapter_flagged", adapter=version.name, reason=code)
            return None
        return await self._registry.refuse(change, current, code, reason)

    async def _flag(self, change: Change, version: AdapterVersion, kind: str, source_id: str) -> None:
        sources = await change.sources(version.tenant, version.name)
        flagged = [
            AdapterSource(one.kind, one.id, one.version, one.rows, withdrawn=True)
            if (one.kind, one.id) == (kind, source_id)
            else one
            for one in sources
        ]
        if flagged != sources:
            await change.put_sources(version.tenant, version.name, flagged)
