"""Judgements whose content lies in the blob store, where the chat room put it."""

from collections.abc import AsyncIterator, Collection
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from brain.events.v1 import feedback_pb2
from services.chassis.auth import current_caller
from services.chassis.errors import NotFound
from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.domain.judgements import Judgement, JudgementKind
from services.finetuning.domain.rows import DocumentSource, Turn
from services.finetuning.ports.blobs import Blobs
from services.finetuning.ports.records import Reading

__all__ = ["HeardJudgements"]

_log = structlog.get_logger()
_ROLES: Final = ("system", "user", "assistant", "tool")


class HeardJudgements:
    """The judgements that the room has heard of, of the caller's tenant.

    Args:
        ledger: Where their contents lie.
        blobs: The contents.
    """

    def __init__(self, *, ledger: Reading, blobs: Blobs) -> None:
        self._ledger = ledger
        self._blobs = blobs

    async def given(
        self, *, collection_ids: Collection[str], kinds: Collection[JudgementKind]
    ) -> AsyncIterator[Judgement]:
        """Yield judgements, oldest first; one whose content went meanwhile is left out: it was taken back."""
        for heard in await self._ledger.heard_judgements(current_caller().tenant):
            if JudgementKind(heard.kind) not in kinds:
                continue
            if collection_ids and set(collection_ids).isdisjoint(heard.collection_ids):
                continue
            try:
                content = feedback_pb2.FeedbackContent.FromString(await self._blobs.get(heard.blob_key))
            except NotFound:
                continue
            except DecodeError:
                _log.error("judgement_unreadable", feedback_id=heard.feedback_id)
                continue
            yield _judgement(heard, content)


def _judgement(heard: HeardJudgement, content: feedback_pb2.FeedbackContent) -> Judgement:
    return Judgement(
        feedback_id=heard.feedback_id,
        kind=JudgementKind(heard.kind),
        turns=tuple(Turn(turn.role, turn.content) for turn in content.turns if turn.role in _ROLES),
        answers=tuple(content.answers),
        rater=content.rater,
        ranks=tuple(content.ranks),
        edited=content.edited,
        model=heard.model,
        collection_ids=heard.collection_ids,
        documents=tuple(DocumentSource(document, version) for document, version in heard.sources),
    )
