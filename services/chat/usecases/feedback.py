"""Feedback: given, read, listed, taken back."""

from dataclasses import replace

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied
from services.chassis.ids import new_id
from services.chat.domain.feedback import (
    Feedback,
    FeedbackFilter,
    Judged,
    Judgement,
    checked_judgement,
    judged_receipt,
    rater_of,
    sees_all,
    sources_of,
    unit_of,
)
from services.chat.ports import Clock, Judgements, Records
from services.chat.telemetry import Metrics
from services.chat.usecases.judging import FindJudged, KeepJudgement, RemoveLooseBlobs

__all__ = ["GetFeedback", "GiveFeedback", "ListFeedback", "WithdrawFeedback", "blob_key"]

_DEFAULT_LIMIT = 20
_MOST = 100


def blob_key(tenant: str, feedback_id: str) -> str:
    """Return where other rooms read what a judgement says."""
    return f"{tenant}/feedback/{feedback_id}.pb"


def _not_found(feedback_id: str) -> NotFound:
    return NotFound(f"No feedback {feedback_id!r}.", param="feedback_id")


class GiveFeedback:
    """Keeps a thumb or a better answer.

    Args:
        records: Where receipts are kept.
        keep: Keeps the judgement.
        clock: The time.
    """

    def __init__(self, *, records: Records, keep: KeepJudgement, clock: Clock) -> None:
        self._records = records
        self._keep = keep
        self._clock = clock

    async def __call__(self, caller: Caller, receipt_id: str, said: Judgement) -> tuple[Judged, str]:
        """Keep what the caller says of an answer; return it, and the id of the earlier judgement whose place it took.

        Raises:
            InvalidInput: The judgement contradicts itself; `param` names the field.
            NotFound: There is no such receipt that the caller may know of.
        """
        receipt = await self._records.receipt(receipt_id, tenant=caller.tenant)
        if receipt is None or not (receipt.owner == caller.subject or caller.is_administrator):
            raise NotFound(f"No receipt {receipt_id!r}.", param="receipt_id")
        kept = checked_judgement(said, answer=receipt.answer)
        feedback_id = new_id("fb_")
        given = Feedback(
            id=feedback_id,
            tenant=caller.tenant,
            rater=rater_of(caller),
            created_at=self._clock.now(),
            said=kept,
            receipt_id=receipt.id,
            comparison_id="",
            # A refusal before generation is nobody's answer.
            model=receipt.model if receipt.prompt_hash else "",
            asked_model=receipt.asked_model,
            collection_ids=receipt.collection_ids,
            sources=sources_of(receipt),
            unit=unit_of(receipt),
            blob_key=blob_key(caller.tenant, feedback_id),
        )
        judged = judged_receipt(given, receipt)
        return judged, await self._keep(judged)


class GetFeedback:
    """Returns one judgement.

    Args:
        judgements: Where they are kept.
        find_judged: What they are about.
    """

    def __init__(self, *, judgements: Judgements, find_judged: FindJudged) -> None:
        self._judgements = judgements
        self._find_judged = find_judged

    async def __call__(self, caller: Caller, feedback_id: str) -> Judged:
        """Return it to its rater or a curator.

        Raises:
            NotFound: There is none that the caller may know of.
        """
        found = await self._judgements.get(feedback_id, tenant=caller.tenant)
        if found is None or not (found.rater == rater_of(caller) or sees_all(caller)):
            raise _not_found(feedback_id)
        judged = await self._find_judged([found], tenant=caller.tenant)
        if not judged:
            raise _not_found(feedback_id)
        return judged[0]


class ListFeedback:
    """Lists judgements.

    Args:
        judgements: Where they are kept.
        find_judged: What they are about.
    """

    def __init__(self, *, judgements: Judgements, find_judged: FindJudged) -> None:
        self._judgements = judgements
        self._find_judged = find_judged

    async def __call__(
        self, caller: Caller, wanted: FeedbackFilter, *, limit: int, after: str
    ) -> tuple[list[Judged], bool]:
        """Return a page, newest first, and whether more follow; own ones only to who is no curator.

        Raises:
            InvalidInput: The limit is out of range.
            PermissionDenied: Another's judgements are asked for by who is no curator.
        """
        if limit > _MOST:
            raise InvalidInput(f"limit: {limit} is not allowed; use 1 to {_MOST}.", param="limit")
        if not sees_all(caller):
            own = rater_of(caller)
            if wanted.rater not in {"", own}:
                raise PermissionDenied(f"rater: only curators see what others said; use {own!r} or leave it out.")
            wanted = replace(wanted, rater=own)
        size = limit or _DEFAULT_LIMIT
        found = await self._judgements.page(wanted, tenant=caller.tenant, limit=size + 1, after=after)
        judged = await self._find_judged(found[:size], tenant=caller.tenant)
        return judged, len(found) > size


class WithdrawFeedback:
    """Takes a judgement back.

    Args:
        judgements: Where they are kept.
        remove_loose: Removes the blob.
        metrics: The room's metrics.
    """

    def __init__(self, *, judgements: Judgements, remove_loose: RemoveLooseBlobs, metrics: Metrics) -> None:
        self._judgements = judgements
        self._remove_loose = remove_loose
        self._metrics = metrics

    async def __call__(self, caller: Caller, feedback_id: str) -> None:
        """Forget an own judgement, or as an administrator anybody's, with its blob.

        Raises:
            NotFound: There is none that the caller may take back.
        """
        found = await self._judgements.get(feedback_id, tenant=caller.tenant)
        if found is None or not (found.rater == rater_of(caller) or caller.is_administrator):
            raise _not_found(feedback_id)
        if not await self._judgements.withdraw(feedback_id, tenant=caller.tenant):
            raise _not_found(feedback_id)
        self._metrics.feedback_withdrawn.inc()
        await self._remove_loose()
