"""What is kept of a turn: the receipt, and the turns of a stored conversation, in one transaction."""

from dataclasses import dataclass, replace

from services.chassis.auth import Caller
from services.chassis.ids import new_id
from services.chat.domain.passages import digest
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.receipts import (
    CitationRecord,
    Conversation,
    EvidenceRecord,
    Receipt,
    SourceRecord,
    Span,
    StoredTurn,
)
from services.chat.domain.rewriting import last_question
from services.chat.domain.turn import Grounding, Message, Passage, Question, RewriteMethod, Sampling
from services.chat.ports import Clock, Records
from services.chat.usecases.grounded import Said
from services.chat.usecases.queries import Queries
from services.chat.usecases.stages import Stages
from services.chat.usecases.support import Support
from services.layout.fitting import FittedPrompt
from services.layout.nearest import Neighbourhood


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with what was stored before it."""

    question: Question
    caller: Caller
    response_id: str
    conversation: Conversation | None
    history: tuple[Message, ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, oldest first."""
        return (*self.history, *self.question.messages)

    @property
    def conversation_id(self) -> str:
        """Id of the stored conversation; empty when the turn is not stored."""
        return self.conversation.id if self.conversation else ""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a grounded turn rests on."""

    queries: Queries
    passages: tuple[Passage, ...]
    prompt: FittedPrompt
    support: Support


def instructions_of(turn: Turn) -> str:
    """Return the system turns of the application as one text."""
    return "\n\n".join(message.content for message in turn.messages if message.role == "system")


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
        """Store the turn, all of it or nothing; return the receipt's id."""
        receipt = self._receipt(turn, said, stages, grounds, sampling)
        now = receipt.created_at
        turns = [StoredTurn(message.role, message.content, "", now) for message in turn.question.messages]
        turns.append(StoredTurn("assistant", said.answer, receipt.id, now))
        await self._records.save(
            receipt,
            conversation=replace(turn.conversation, updated_at=now) if turn.conversation else None,
            turns=turns,
            tenant=turn.caller.tenant,
            owner=turn.caller.subject,
        )
        return receipt.id

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
