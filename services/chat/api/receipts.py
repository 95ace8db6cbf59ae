"""ReceiptService: how answers came about."""

from typing import Any

from brain.chat.v1 import chat_pb2, receipt_pb2, receipt_pb2_grpc
from services.chassis.auth import current_caller
from services.chat.api import wire
from services.chat.api.conversations import timestamp
from services.chat.domain.receipts import CitationRecord, EvidenceRecord, ResolvedReceipt, ResolvedSpan, SourceRecord
from services.chat.domain.turn import Citation, Evidence, Locator, Passage, QueriesMade, Source
from services.chat.usecases.receipts import GetReceipt, ReplayReceipt


def _source(record: SourceRecord, text: ResolvedSpan) -> receipt_pb2.ReceiptSource:
    passage = Passage(
        document_id=record.span.document_id,
        version=record.span.version,
        start=record.span.start,
        end=record.span.end,
        text=text.text,
        title=text.title,
        filename=text.filename,
        collection_id=record.collection_id,
        file_id=record.file_id,
        locator=Locator(record.page_first, record.page_last),
        score=record.score,
    )
    return receipt_pb2.ReceiptSource(
        source=wire.source(Source(record.number, passage)),
        available=text.available,
        current=text.current,
        in_prompt=bool(record.number),
        cited=record.cited,
    )


def _citation(record: CitationRecord, resolved: ResolvedReceipt) -> chat_pb2.Citation:
    pairs = zip(resolved.receipt.sources, resolved.texts, strict=True)
    texts = {source.number: (source.span.start, text.text) for source, text in pairs if source.number}

    def quote(evidence: EvidenceRecord) -> str:
        start, text = texts.get(evidence.source_number, (0, ""))
        return text[evidence.start - start : evidence.end - start] if text else ""

    evidence = tuple(
        Evidence(one.source_number, one.start, one.end, quote(one), Locator(one.page_first, one.page_last), one.score)
        for one in record.evidence
    )
    said = resolved.receipt.answer[record.start : record.end]
    return wire.citation(Citation(record.start, record.end, said, evidence))


def _receipt(resolved: ResolvedReceipt) -> receipt_pb2.Receipt:
    receipt = resolved.receipt
    return receipt_pb2.Receipt(
        receipt_id=receipt.id,
        response_id=receipt.response_id,
        conversation_id=receipt.conversation_id,
        created_at=timestamp(receipt.created_at),
        model=receipt.model,
        question=receipt.question,
        answer=receipt.answer,
        queries=wire.queries(QueriesMade(receipt.queries, receipt.method)),
        sources=[_source(source, text) for source, text in zip(receipt.sources, resolved.texts, strict=True)],
        citations=[_citation(citation, resolved) for citation in receipt.citations],
        prompt_hash=receipt.prompt_hash,
        prompt_version=receipt.prompt_version,
        sampling=wire.sampling_message(receipt.sampling),
        usage=wire.usage(receipt.usage),
        abstention=wire.ABSTENTION[receipt.abstention],
        timings=[chat_pb2.StageTiming(stage=name, seconds=seconds) for name, seconds in receipt.timings.items()],
        trimmed=receipt.trimmed,
        collection_ids=receipt.collection_ids,
        support=receipt.support,
        asked_model=receipt.asked_model,
    )


class ReceiptApi(receipt_pb2_grpc.ReceiptServiceServicer):
    """Serves `brain.chat.v1.ReceiptService`.

    Args:
        get_receipt: The use case.
        replay_receipt: The use case.
    """

    def __init__(self, *, get_receipt: GetReceipt, replay_receipt: ReplayReceipt) -> None:
        self._get = get_receipt
        self._replay = replay_receipt

    async def GetReceipt(self, request: receipt_pb2.GetReceiptRequest, context: Any) -> receipt_pb2.GetReceiptResponse:
        """Return one receipt."""
        resolved = await self._get(current_caller(), request.receipt_id)
        return receipt_pb2.GetReceiptResponse(receipt=_receipt(resolved))

    async def ReplayReceipt(
        self, request: receipt_pb2.ReplayReceiptRequest, context: Any
    ) -> receipt_pb2.ReplayReceiptResponse:
        """Answer again from one receipt."""
        replay = await self._replay(current_caller(), request.receipt_id)
        return receipt_pb2.ReplayReceiptResponse(
            answer=replay.answer,
            prompt_hash=replay.prompt_hash,
            same_prompt=replay.same_prompt,
            same_answer=replay.same_answer,
            difference=replay.difference,
        )
