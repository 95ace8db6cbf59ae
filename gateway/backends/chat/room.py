"""Turns, conversations and receipts of the chat room over gRPC."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import grpc

from brain.chat.v1 import chat_pb2 as pb
from brain.chat.v1 import conversation_pb2, receipt_pb2
from brain.chat.v1.chat_pb2_grpc import ChatServiceStub
from brain.chat.v1.conversation_pb2_grpc import ConversationServiceStub
from brain.chat.v1.receipt_pb2_grpc import ReceiptServiceStub
from gateway.backends.wire import (
    FINISH,
    READ_TIMEOUT_S,
    WORK_TIMEOUT_S,
    locator,
    logprobs,
    messages,
    model_name,
    moment,
    sampling_from,
    sampling_to,
    usage,
)
from gateway.domain.asking import (
    Abstention,
    AnswerEvent,
    ChatTurn,
    CitationMade,
    CitationMode,
    Conversation,
    Evidence,
    Finish,
    Grounding,
    PassagesChosen,
    QueriesMade,
    Receipt,
    ReceiptSource,
    Replay,
    RetrievalOptions,
    RewriteMethod,
    Source,
    StoredTurn,
    TextMade,
    TurnFinished,
    TurnStarted,
)
from gateway.domain.keeping import Page, Paging
from services.chassis.errors import Internal, Unavailable
from services.chassis.rpc.client import remote

__all__ = ["GROUNDING", "IDEMPOTENT", "GrpcChat", "retrieval"]

_ROOM = "chat"
# Processes of the room that a turn is asked of before its first word, and the pause before the next.
_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.2
IDEMPOTENT = (
    "brain.chat.v1.ConversationService/ListConversations",
    "brain.chat.v1.ConversationService/GetConversation",
    "brain.chat.v1.ReceiptService/GetReceipt",
)
_MODE: Final = {
    CitationMode.DEFAULT: pb.CITATION_MODE_UNSPECIFIED,
    CitationMode.OFF: pb.CITATION_MODE_OFF,
    CitationMode.FAST: pb.CITATION_MODE_FAST,
    CitationMode.ACCURATE: pb.CITATION_MODE_ACCURATE,
}
GROUNDING: Final = {
    Grounding.DEFAULT: pb.GROUNDING_UNSPECIFIED,
    Grounding.STRICT: pb.GROUNDING_STRICT,
    Grounding.OPEN: pb.GROUNDING_OPEN,
}
_METHOD: Final[dict[int, RewriteMethod]] = {
    pb.REWRITE_METHOD_UNSPECIFIED: "none",
    pb.REWRITE_METHOD_SELF_CONTAINED: "self_contained",
    pb.REWRITE_METHOD_MODEL: "model",
    pb.REWRITE_METHOD_LEXICAL: "lexical",
}
_ABSTENTION: Final = {
    pb.ABSTENTION_UNSPECIFIED: Abstention.NONE,
    pb.ABSTENTION_NOTHING_FOUND: Abstention.NOTHING_FOUND,
    pb.ABSTENTION_NOT_SUPPORTED: Abstention.NOT_SUPPORTED,
}


class GrpcChat:
    """Turns, conversations and receipts.

    Args:
        channel: To the chat room.
        answer_timeout_s: Deadline of an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, answer_timeout_s: float) -> None:
        self._chat = ChatServiceStub(channel)
        self._conversations = ConversationServiceStub(channel)
        self._receipts = ReceiptServiceStub(channel)
        self._answer_timeout_s = answer_timeout_s

    async def answer(self, turn: ChatTurn) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what happens while a turn is answered; closing the iterator ends the work.

        What comes before the first word is held back until then: when the room that answers is gone, another process of it
        begins anew, and nobody has seen of the first what the second would contradict.
        """
        request = _request(turn)
        for attempt in range(1, _ATTEMPTS + 1):
            held: list[AnswerEvent] | None = []
            try:
                async with aclosing(self._events(request)) as events:
                    async for event in events:
                        if held is None:
                            yield event
                            continue
                        held.append(event)
                        if isinstance(event, TextMade | TurnFinished):
                            ready, held = held, None
                            for one in ready:
                                yield one
            except Unavailable as error:
                is_gone = isinstance(error.__cause__, grpc.aio.AioRpcError) and not error.__cause__.trailing_metadata()
                if held is None or not is_gone or attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_S * attempt)
            else:
                return

    async def _events(self, request: pb.ChatRequest) -> AsyncGenerator[AnswerEvent, None]:
        with remote(_ROOM, "Chat") as metadata:
            stream = self._chat.Chat(request, timeout=self._answer_timeout_s, metadata=metadata)
            try:
                async for message in stream:
                    yield _event(message)
            finally:
                stream.cancel()

    async def list_conversations(self, paging: Paging) -> Page[Conversation]:
        """Return the caller's conversations, newest first."""
        request = conversation_pb2.ListConversationsRequest(limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListConversations") as metadata:
            answer = await self._conversations.ListConversations(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(_conversation(one) for one in answer.conversations), answer.has_more)

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """Return a conversation with its turns."""
        request = conversation_pb2.GetConversationRequest(conversation_id=conversation_id)
        with remote(_ROOM, "GetConversation") as metadata:
            answer = await self._conversations.GetConversation(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _conversation(answer.conversation)

    async def delete_conversation(self, conversation_id: str) -> tuple[int, int]:
        """Remove a conversation; return how many turns and receipts went."""
        request = conversation_pb2.DeleteConversationRequest(conversation_id=conversation_id)
        with remote(_ROOM, "DeleteConversation") as metadata:
            answer = await self._conversations.DeleteConversation(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return answer.turns_removed, answer.receipts_removed

    async def get_receipt(self, receipt_id: str) -> Receipt:
        """Return a receipt with its texts under the caller's rights of today."""
        request = receipt_pb2.GetReceiptRequest(receipt_id=receipt_id)
        with remote(_ROOM, "GetReceipt") as metadata:
            answer = await self._receipts.GetReceipt(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _receipt(answer.receipt)

    async def replay(self, receipt_id: str) -> Replay:
        """Ask again as the receipt says."""
        request = receipt_pb2.ReplayReceiptRequest(receipt_id=receipt_id)
        with remote(_ROOM, "ReplayReceipt") as metadata:
            answer = await self._receipts.ReplayReceipt(request, timeout=self._answer_timeout_s, metadata=metadata)
        return Replay(answer.answer, answer.prompt_hash, answer.same_prompt, answer.same_answer, answer.difference)


def retrieval(options: RetrievalOptions) -> pb.RetrievalOptions:
    """Return how passages are sought, for the wire."""
    wire = pb.RetrievalOptions(
        collection_ids=options.collection_ids,
        filter_json=options.filter_json,
        top_k=options.top_k,
        ranker=options.ranker,
    )
    if options.alpha is not None:
        wire.alpha = options.alpha
    if options.score_threshold is not None:
        wire.score_threshold = options.score_threshold
    return wire


def _request(turn: ChatTurn) -> pb.ChatRequest:
    return pb.ChatRequest(
        model=model_name(turn.model),
        messages=messages(turn.messages),
        conversation_id=turn.conversation_id,
        documents=[
            pb.InlineDocument(id=one.id, title=one.title, text=one.text, data_json=one.data_json)
            for one in turn.documents
        ],
        retrieval=retrieval(turn.retrieval),
        citation_mode=_MODE[turn.citation_mode],
        grounding=GROUNDING[turn.grounding],
        sampling=sampling_to(turn.sampling),
        store=turn.store,
    )


def _event(message: pb.ChatResponse) -> AnswerEvent:
    # Text first: it is nearly all there is.
    match message.WhichOneof("event"):
        case "text":
            text = message.text
            return TextMade(
                text.index, text.text, logprobs(text.logprobs) if text.logprobs else (), FINISH[text.finish_reason]
            )
        case "citation":
            return _citation(message.citation)
        case "started":
            return TurnStarted(message.started.response_id, message.started.conversation_id, message.started.model)
        case "queries":
            return _queries(message.queries)
        case "passages":
            return PassagesChosen(tuple(_source(source) for source in message.passages.sources))
        case "finished":
            end = message.finished
            return TurnFinished(
                FINISH[end.finish_reason] or Finish.STOP,
                usage(end.usage),
                end.receipt_id,
                _ABSTENTION[end.abstention],
                tuple((timing.stage, timing.seconds) for timing in end.timings),
            )
        case other:
            raise Internal("The chat service said something unknown.", private=f"event {other!r}")


def _queries(queries: pb.QueriesMade) -> QueriesMade:
    return QueriesMade(tuple(queries.queries), _METHOD[queries.method])


def _source(source: pb.Source) -> Source:
    return Source(
        number=source.number,
        document_id=source.document_id,
        version=source.version,
        collection_id=source.collection_id,
        file_id=source.file_id,
        filename=source.filename,
        title=source.title,
        locator=locator(source.locator),
        start=source.start,
        end=source.end,
        text=source.text,
        score=source.score,
        data_json=source.data_json,
    )


def _citation(citation: pb.Citation) -> CitationMade:
    return CitationMade(
        citation.answer_start,
        citation.answer_end,
        citation.answer_text,
        tuple(
            Evidence(one.source_number, one.quote_start, one.quote_end, one.quote, locator(one.locator), one.score)
            for one in citation.evidence
        ),
    )


def _conversation(one: conversation_pb2.Conversation) -> Conversation:
    return Conversation(
        id=one.conversation_id,
        created_at=moment(one.created_at),
        updated_at=moment(one.updated_at),
        title=one.title,
        turns=tuple(
            StoredTurn(turn.role, turn.content, turn.receipt_id, moment(turn.created_at)) for turn in one.turns
        ),
    )


def _receipt(one: receipt_pb2.Receipt) -> Receipt:
    return Receipt(
        id=one.receipt_id,
        response_id=one.response_id,
        conversation_id=one.conversation_id,
        created_at=moment(one.created_at),
        model=one.model,
        question=one.question,
        answer=one.answer,
        queries=_queries(one.queries),
        sources=tuple(
            ReceiptSource(_source(row.source), row.available, row.current, row.in_prompt, row.cited)
            for row in one.sources
        ),
        citations=tuple(_citation(citation) for citation in one.citations),
        prompt_hash=one.prompt_hash,
        prompt_version=one.prompt_version,
        sampling=sampling_from(one.sampling),
        usage=usage(one.usage),
        abstention=_ABSTENTION[one.abstention],
        timings=tuple((timing.stage, timing.seconds) for timing in one.timings),
        trimmed=tuple(one.trimmed),
        collection_ids=tuple(one.collection_ids),
        support=one.support,
        asked_model=one.asked_model,
    )
