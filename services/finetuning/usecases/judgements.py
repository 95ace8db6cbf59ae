"""Judgements that the room hears of: where their content lies is remembered, until they are taken back."""

from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.ports.records import Ledger

__all__ = ["HearJudgements"]


class HearJudgements:
    """Remembers judgements.

    Args:
        ledger: Records.
    """

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    async def __call__(self, tenant: str, judgement: HeardJudgement) -> None:
        """Remember one; a later one under the same id takes its place, one that was taken back stays so."""
        async with self._ledger.change() as change:
            if await change.withdrawn_feedback(tenant, [judgement.feedback_id]):
                return
            await change.put_judgement(tenant, judgement)
