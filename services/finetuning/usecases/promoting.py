"""Promotions: gate → canary → sequential check → the alias moves, or everything goes back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.ids import new_id
from services.finetuning.domain.adapters import AdapterStatus, AdapterVersion, Alias, check_alias
from services.finetuning.domain.promotions import Decision, Promotion, PromotionState, PromotionStep, decide
from services.finetuning.ports.records import Change, Ledger, Page
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.lookup import known_adapter, usable
from services.finetuning.usecases.settling import AwaitEngine

__all__ = ["Gate", "NewPromotion", "Promotions"]

_log = structlog.get_logger()


class Gate(StrEnum):
    """What must hold before a candidate meets callers."""

    # Its job had a validation file, and the loss on it fell.
    VALIDATION_LOSS = "validation_loss"
    # A verdict of the evaluation room.
    VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class NewPromotion:
    """A promotion as asked for; None and 0 take the room's settings."""

    alias: str
    candidate: str
    canary_weight: float | None = None
    min_judgements: int = 0
    skip_gate_reason: str = ""


class Promotions:
    """Opens promotions and brings them to their end.

    Args:
        ledger: Records.
        base_model: Name of the base model: an alias may lead to it and not be called so.
        gate: What must hold before a candidate meets callers.
        canary_weight: Share of callers that a candidate answers while it is tried.
        min_judgements: Judged answers of a candidate that are enough for a decision.
        await_engine: Waits until a moved alias leads to its target.
        metrics: Where promotions are counted.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        base_model: str,
        gate: Gate,
        canary_weight: float,
        min_judgements: int,
        await_engine: AwaitEngine,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._base_model = base_model
        self._gate = gate
        self._canary_weight = canary_weight
        self._min_judgements = min_judgements
        self._await_engine = await_engine
        self._metrics = metrics
        self._now = now

    async def promote(self, caller: Caller, new: NewPromotion) -> Promotion:
        """Open a promotion and pass it through the gate where that can be done at once.

        Raises:
            InvalidInput: The alias cannot be one, or a share or number is out of its bounds.
            NotFound: There is no such adapter.
            Conflict: The candidate is blocked, the alias leads to it already, or another promotion of it is open.
        """
        check_alias(new.alias)
        weight = self._canary_weight if new.canary_weight is None else new.canary_weight
        if not 0 <= weight < 1:
            raise InvalidInput(f"canary_weight: {weight!r} is not allowed; give 0 to below 1.", param="canary_weight")
        async with self._ledger.change() as change:
            await self._check_alias(change, caller.tenant, new.alias)
            version = await known_adapter(change, caller, new.candidate, param="candidate")
            if version.status is AdapterStatus.BLOCKED:
                raise Conflict(f"candidate: {version.name} is blocked ({version.reason}).", param="candidate")
            alias = await change.alias(caller.tenant, new.alias)
            if alias is not None and alias.target == version.name:
                raise Conflict(f"alias: {new.alias} leads to {version.name} already.", param="alias")
            if (other := await change.open_promotion(caller.tenant, new.alias)) is not None:
                raise Conflict(f"alias: {other.promotion_id} is still open; end it first.", param="alias")
            at = self._now()
            promotion = Promotion(
                promotion_id=new_id("promo_"),
                tenant=caller.tenant,
                alias=new.alias,
                candidate=version.name,
                previous=alias.target if alias else "",
                state=PromotionState.GATED,
                canary_weight=weight,
                min_judgements=new.min_judgements or self._min_judgements,
                owner=caller.subject,
                created_at=at,
                history=(PromotionStep(at, PromotionState.GATED, "opened", caller.subject),),
            )
            await change.announce_promotion(promotion)
            if new.skip_gate_reason.strip():
                reason = f"the gate was skipped: {new.skip_gate_reason.strip()}"
                promotion = await self._enter(change, promotion, alias, reason, by=caller.subject)
            elif self._gate is Gate.VALIDATION_LOSS:
                passed, reason = await self._improved(change, version)
                if passed:
                    promotion = await self._enter(change, promotion, alias, reason)
                else:
                    promotion = await self._move(change, promotion, PromotionState.REFUSED, reason)
            else:
                await change.put_promotion(promotion)
        if promotion.state is PromotionState.PROMOTED:
            await self._settle(caller, new.alias)
        return promotion

    async def verdict(self, tenant: str, promotion_id: str, *, passed: bool, reason: str) -> None:
        """Let the evaluation room's verdict open the gate, or refuse the candidate. One that came before is no news."""
        async with self._ledger.change() as change:
            promotion = await change.promotion(tenant, promotion_id)
            if promotion is None or promotion.state is not PromotionState.GATED:
                return
            if passed:
                await self._enter(change, promotion, await change.alias(tenant, promotion.alias), reason)
            else:
                await self._move(change, promotion, PromotionState.REFUSED, reason)

    async def judged(self, tenant: str, *, alias: str, model: str, key: str, bad: bool) -> None:
        """Count a judgement of an answer that was given under an alias, once by its key, and decide."""
        await self._count(tenant, alias, model, key, judged=True, bad=bad)

    async def answered(self, tenant: str, *, alias: str, model: str, key: str, failed: bool) -> None:
        """Count an answer that was given under an alias, once by its key, and decide."""
        await self._count(tenant, alias, model, key, judged=False, bad=failed)

    async def rollback(self, caller: Caller, alias_name: str, reason: str) -> Promotion:
        """End an open promotion, or move the alias back to where it led before.

        Raises:
            NotFound: There is no such alias.
            Conflict: There is nothing to go back to.
        """
        said = reason.strip() or "by hand"
        async with self._ledger.change() as change:
            alias = await change.alias(caller.tenant, alias_name)
            open_one = await change.open_promotion(caller.tenant, alias_name)
            if open_one is not None:
                if alias is not None and alias.canary:
                    await self._lead(change, replace(alias, canary="", canary_weight=0.0))
                return await self._move(change, open_one, PromotionState.ROLLED_BACK, said, by=caller.subject)
            if alias is None:
                raise NotFound(f"alias: there is no alias {alias_name[:80]!r}.", param="alias")
            last = await self._last_promoted(change, alias)
            await self._lead(change, replace(alias, target=last.previous, previous=alias.target))
            undone = await self._move(change, last, PromotionState.ROLLED_BACK, said, by=caller.subject)
        await self._settle(caller, alias_name)
        return undone

    async def get(self, caller: Caller, promotion_id: str) -> Promotion:
        """Return a promotion.

        Raises:
            NotFound: There is none, or its candidate is not for the caller.
        """
        promotion = await self._ledger.promotion(caller.tenant, promotion_id)
        if promotion is None or not await self._visible(caller, promotion):
            raise NotFound(f"promotion_id: there is no promotion {promotion_id[:80]!r}.", param="promotion_id")
        return promotion

    async def page(self, caller: Caller, page: Page, *, alias: str) -> tuple[list[Promotion], bool]:
        """Return a page of promotions, and whether more follow."""
        found = await self._ledger.promotions(caller.tenant, page, alias=alias)
        shown = [one for one in found[: page.limit] if await self._visible(caller, one)]
        return shown, len(found) > page.limit

    async def aliases(self, caller: Caller) -> list[Alias]:
        """Return the tenant's aliases."""
        return await self._ledger.aliases(caller.tenant)

    async def abandon(self, change: Change, version: AdapterVersion) -> None:
        """End open promotions of an adapter that is blocked now, in the transaction that blocks it."""
        for alias in await change.aliases(version.tenant):
            promotion = await change.open_promotion(version.tenant, alias.alias)
            if promotion is not None and promotion.candidate == version.name:
                if alias.canary:
                    await self._lead(change, replace(alias, canary="", canary_weight=0.0))
                await self._move(
                    change, promotion, PromotionState.ROLLED_BACK, f"the candidate is blocked: {version.reason}"
                )

    async def _settle(self, caller: Caller, alias_name: str) -> None:
        """Wait until the alias is answered by its new target, where the caller may ask that at all."""
        alias = await self._ledger.alias(caller.tenant, alias_name)
        if alias is None or not alias.target:
            return
        version = await self._ledger.adapter(caller.tenant, alias.target)
        if version is None or not set(caller.principals).isdisjoint(version.principals):
            await self._await_engine.alias(alias.alias, alias.target)

    async def _count(self, tenant: str, alias_name: str, model: str, key: str, *, judged: bool, bad: bool) -> None:
        async with self._ledger.change() as change:
            promotion = await change.open_promotion(tenant, alias_name)
            if promotion is None or promotion.state is not PromotionState.CANARY:
                return
            of_candidate = model == promotion.candidate
            if not of_candidate and model != (promotion.previous or self._base_model):
                return
            if not await change.count_once(promotion.promotion_id, key):
                return
            tally = promotion.of_candidate if of_candidate else promotion.of_current
            tally = tally.judge(bad=bad) if judged else tally.answer(failed=bad)
            promotion = replace(promotion, of_candidate=tally) if of_candidate else replace(promotion, of_current=tally)
            await change.put_promotion(promotion)
            decision, reason = decide(
                promotion.of_candidate, promotion.of_current, min_judgements=promotion.min_judgements
            )
            if decision is Decision.GO_ON:
                return
            alias = await change.alias(tenant, alias_name)
            assert alias is not None  # a canary has one
            if decision is Decision.PROMOTE:
                await self._flip(change, promotion, alias, reason)
            else:
                await self._lead(change, replace(alias, canary="", canary_weight=0.0))
                await self._move(change, promotion, PromotionState.ROLLED_BACK, reason)

    async def _enter(
        self, change: Change, promotion: Promotion, alias: Alias | None, reason: str, *, by: str = ""
    ) -> Promotion:
        """Let a candidate that passed the gate meet callers: a share of them, or all where nobody was served before."""
        if alias is None or not alias.target or promotion.canary_weight == 0:
            made = alias or Alias(promotion.alias, promotion.tenant, "", self._now(), revision=0)
            return await self._flip(change, promotion, made, reason, by=by)
        await self._lead(
            change, replace(alias, canary=promotion.candidate, canary_weight=promotion.canary_weight), moved=False
        )
        return await self._move(change, promotion, PromotionState.CANARY, reason, by=by)

    async def _flip(
        self, change: Change, promotion: Promotion, alias: Alias, reason: str, *, by: str = ""
    ) -> Promotion:
        await self._lead(
            change,
            replace(alias, target=promotion.candidate, previous=alias.target, canary="", canary_weight=0.0),
        )
        return await self._move(change, promotion, PromotionState.PROMOTED, reason, by=by)

    async def _lead(self, change: Change, alias: Alias, *, moved: bool = True) -> None:
        alias = replace(alias, revision=alias.revision + 1, moved_at=self._now() if moved else alias.moved_at)
        await change.put_alias(alias)
        await change.announce_alias(alias)

    async def _move(
        self, change: Change, promotion: Promotion, state: PromotionState, reason: str, *, by: str = ""
    ) -> Promotion:
        moved = promotion.moved(state, self._now(), reason, by)
        await change.put_promotion(moved)
        self._metrics.promotions.labels(state=state.value).inc()
        _log.info("promotion_moved", promotion_id=moved.promotion_id, alias=moved.alias, state=state.value)
        return moved

    async def _improved(self, change: Change, version: AdapterVersion) -> tuple[bool, str]:
        """Return whether training lowered the loss on the rows that were held out, and the numbers."""
        if not version.job_id:
            return False, "the adapter was imported: there is no validation loss; skip the gate with a reason"
        rows = [row for row in await change.metrics(version.job_id) if "valid_loss" in row]
        if version.step:
            # A checkpoint is judged as it is, not as its job went on to be.
            rows = [row for row in rows if row["step"] <= version.step]
        if len(rows) < 2:
            return False, "its job had no validation file: there is no validation loss; skip the gate with a reason"
        first, last = rows[0]["valid_loss"], rows[-1]["valid_loss"]
        said = f"validation loss {first:.4f} → {last:.4f}"
        return last < first, said

    async def _last_promoted(self, change: Change, alias: Alias) -> Promotion:
        for promotion in await change.promotions(alias.tenant, Page(100), alias=alias.alias):
            if promotion.state is PromotionState.PROMOTED and promotion.candidate == alias.target:
                if not promotion.previous:
                    raise Conflict(
                        f"alias: {alias.alias} led nowhere before; there is nothing to go back to.", param="alias"
                    )
                return promotion
        raise Conflict(f"alias: there is no promotion of {alias.alias} that could be undone.", param="alias")

    async def _check_alias(self, change: Change, tenant: str, alias: str) -> None:
        if alias == self._base_model or await change.adapter(tenant, alias) is not None:
            raise InvalidInput(f"alias: {alias!r} is the name of a model.", param="alias")

    async def _visible(self, caller: Caller, promotion: Promotion) -> bool:
        version = await self._ledger.adapter(caller.tenant, promotion.candidate)
        return version is not None and usable(caller, version)
