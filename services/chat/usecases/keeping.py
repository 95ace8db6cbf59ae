"""What is kept of a turn: the receipt, and the turns of a stored conversation, in one transaction."""

from dataclasses import replace

import structlog

from services.chassis.errors import Unavailable
from services.chassis.ids import new_id
from services.chat.domain.announcements import AnswerGiven, AnswerOutcome
from services.chat.domain.passages import digest
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.receipts import (
    CitationRecord,
    EvidenceRecord,
    Receipt,
    SourceRecord,
    Span,
    StoredTurn,
)
from services.chat.domain.rewriting import last_question
from services.chat.domain.turn import Abstention, FinishReason, Grounding, RewriteMethod, Sampling
from services.chat.ports import Clock, Records
from services.chat.usecases.grounded import Said
from services.chat.usecases.grounds import Grounds
from services.chat.usecases.stages import Stages
from services.chat.usecases.talk import Turn, instructions_of
from services.layout.nearest import Neighbourhood

_log = structlog.get_logger()


class KeepTurn:
    """Stores a turn, all of it or nothing.

    Args:
        records: Conversations and receipts.
        texts: The prompt texts, whose version the receipt names.
        clock: The time.
    """

    def __init__(self, *, records: Records, texts: PromptTexts, clock: Clock) -> None:
        self._records = records
        self._texts = texts
        self._clock = clock

    async def __call__(
        self, turn: Turn, said: Said, stages: Stages, *, grounds: Grounds | None, sampling: Sampling
    ) -> str:
        """Store the turn and tell of it, all of it or nothing; return the receipt's id."""
        receipt = self._receipt(turn, said, stages, grounds, sampling)
        now = receipt.created_at
        turns = [StoredTurn(message.role, message.content, "", now) for message in turn.question.messages]
        turns.append(StoredTurn("assistant", said.answer, receipt.id, now))
        await self._records.save(
            receipt,
            conversation=replace(turn.conversation, updated_at=now) if turn.conversation else None,
            turns=turns,
            given=_given(turn, said, receipt_id=receipt.id, outcome=_outcome(said)),
            tenant=turn.caller.tenant,
            owner=turn.caller.subject,
        )
        return receipt.id

    async def failed(self, turn: Turn, said: Said) -> None:
        """Tell other rooms that the engine failed in a turn that would have left a receipt."""
        try:
            await self._records.tell(
                _given(turn, said, receipt_id="", outcome=AnswerOutcome.FAILED), tenant=turn.caller.tenant
            )
        except Unavailable as error:
            # The caller is told why the turn failed; that the database is away too is for the log.
            _log.warning("failed_turn_not_told", reason=error.message)

    def _receipt(self, turn: Turn, said: Said, stages: Stages, grounds: Grounds | None, sampling: Sampling) -> Receipt:
        question = turn.question
        spoken = tuple(message for message in turn.messages[:-1] if message.role != "system")
        asked = last_question(turn.messages)
        return Receipt(
            id=new_id("rcpt_"),
            response_id=turn.response_id,
            conversation_id=turn.conversation_id,
            tenant=turn.caller.tenant,
            owner=turn.caller.subject,
            created_at=self._clock.now(),
            model=said.model,
            asked_model=_asked(turn, said),
            instructions=instructions_of(turn),
            history=grounds.prompt.history if grounds else spoken,
            question=asked,
            standalone=grounds.queries.standalone if grounds else asked,
            answer=said.answer,
            queries=grounds.queries.queries if grounds else (),
            method=grounds.queries.method if grounds else RewriteMethod.NONE,
            sources=_source_records(grounds, said) if grounds else (),
            citations=tuple(
                CitationRecord(
                    citation.start,
                    citation.end,
                    tuple(
                        EvidenceRecord(
                            one.source_number,
                            one.start,
                            one.end,
                            one.locator.page_first,
                            one.locator.page_last,
                            one.score,
                        )
                        for one in citation.evidence
                    ),
                )
                for citation in said.citations
            ),
            prompt_hash=said.prompt_hash,
            prompt_version=self._texts.version if grounds else "",
            grounded=grounds is not None,
            strict=question.grounding is not Grounding.OPEN,
            sampling=sampling,
            usage=said.usage,
            abstention=said.abstention,
            timings=dict(stages.timings),
            trimmed=grounds.prompt.trimmed if grounds else (),
            collection_ids=question.retrieval.collection_ids,
            support=grounds.support.score if grounds else 0.0,
            excerpts=tuple(_span(place) for place in grounds.prompt.excerpts) if grounds else (),
        )


def _asked(turn: Turn, said: Said) -> str:
    # Who asks for none asks for the base model, which is the one that answers then.
    return turn.question.model or said.model


def _outcome(said: Said) -> AnswerOutcome:
    if said.finish_reason is FinishReason.ERROR:
        return AnswerOutcome.FAILED
    return AnswerOutcome.ANSWERED if said.abstention is Abstention.NONE else AnswerOutcome.ABSTAINED


def _given(turn: Turn, said: Said, *, receipt_id: str, outcome: AnswerOutcome) -> AnswerGiven:
    return AnswerGiven(
        response_id=turn.response_id,
        receipt_id=receipt_id,
        model=said.answered_by,
        asked_model=_asked(turn, said),
        outcome=outcome,
        collection_ids=turn.question.retrieval.collection_ids,
    )


def _span(place: Neighbourhood) -> Span:
    passage = place.passage
    return Span(passage.document_id, passage.version, passage.start + place.start, passage.start + place.end)


def _source_records(grounds: Grounds, said: Said) -> tuple[SourceRecord, ...]:
    cited = {evidence.source_number for citation in said.citations for evidence in citation.evidence}
    numbers = {
        (source.passage.document_id, source.passage.version, source.passage.start): source
        for source in grounds.prompt.sources
    }
    records = []
    for found in grounds.passages:
        source = numbers.get((found.document_id, found.version, found.start))
        # The prompt may hold only the beginning of a long passage.
        passage = source.passage if source else found
        records.append(
            SourceRecord(
                number=source.number if source else 0,
                span=Span(passage.document_id, passage.version, passage.start, passage.end),
                collection_id=passage.collection_id,
                file_id=passage.file_id,
                page_first=passage.locator.page_first,
                page_last=passage.locator.page_last,
                score=passage.score,
                cited=bool(source and source.number in cited),
                digest=digest(passage.text) if passage.inline else "",
            )
        )
    return tuple(records)
