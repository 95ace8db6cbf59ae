"""Protobuf messages to domain words and back."""

import json
from typing import Final

from brain.chat.v1 import chat_pb2
from brain.types.v1 import locator_pb2, sampling_pb2
from services.chassis.errors import InvalidInput
from services.chat.domain.turn import (
    Abstention,
    Citation,
    CitationMode,
    Event,
    FinishReason,
    Grounding,
    InlineDocument,
    Locator,
    Message,
    PassagesChosen,
    QueriesMade,
    Question,
    RetrievalOptions,
    RewriteMethod,
    Sampling,
    Source,
    TextDelta,
    TokenLogprob,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)

FINISH: Final = {
    None: sampling_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: sampling_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: sampling_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: sampling_pb2.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: sampling_pb2.FINISH_REASON_ERROR,
}
METHOD: Final = {
    RewriteMethod.NONE: chat_pb2.REWRITE_METHOD_UNSPECIFIED,
    RewriteMethod.SELF_CONTAINED: chat_pb2.REWRITE_METHOD_SELF_CONTAINED,
    RewriteMethod.MODEL: chat_pb2.REWRITE_METHOD_MODEL,
    RewriteMethod.LEXICAL: chat_pb2.REWRITE_METHOD_LEXICAL,
}
ABSTENTION: Final = {
    Abstention.NONE: chat_pb2.ABSTENTION_UNSPECIFIED,
    Abstention.NOTHING_FOUND: chat_pb2.ABSTENTION_NOTHING_FOUND,
    Abstention.NOT_SUPPORTED: chat_pb2.ABSTENTION_NOT_SUPPORTED,
}
_MODE: Final = {
    chat_pb2.CITATION_MODE_OFF: CitationMode.OFF,
    chat_pb2.CITATION_MODE_FAST: CitationMode.FAST,
    chat_pb2.CITATION_MODE_ACCURATE: CitationMode.ACCURATE,
}
GROUNDING: Final = {chat_pb2.GROUNDING_STRICT: Grounding.STRICT, chat_pb2.GROUNDING_OPEN: Grounding.OPEN}
_OPTIONAL: Final = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed",
)  # fmt: skip
_MOST_ANSWERS = 8
_MOST_PASSAGES = 50
_MOST_DOCUMENTS = 200


def question(request: chat_pb2.ChatRequest) -> Question:
    """Return the turn that a request asks for.

    Raises:
        InvalidInput: A value is out of range; `param` names it.
    """
    if len(request.documents) > _MOST_DOCUMENTS:
        raise InvalidInput(f"documents holds {len(request.documents)}; at most {_MOST_DOCUMENTS}.", param="documents")
    seen: set[str] = set()
    for position, document in enumerate(request.documents):
        if document.id and document.id in seen:
            raise InvalidInput(
                f"documents[{position}].id is {document.id!r} again; ids must differ.", param="documents"
            )
        seen.add(document.id)
        if document.data_json and not _is_json(document.data_json):
            raise InvalidInput(f"documents[{position}].data_json is no JSON.", param="documents")
    return Question(
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        model=request.model,
        conversation_id=request.conversation_id,
        documents=tuple(
            InlineDocument(document.id, document.title, document.text, document.data_json)
            for document in request.documents
        ),
        retrieval=retrieval_options(request.retrieval),
        citation_mode=_MODE.get(request.citation_mode),
        grounding=GROUNDING.get(request.grounding),
        sampling=sampling(request.sampling),
        store=request.store,
    )


def retrieval_options(wanted: chat_pb2.RetrievalOptions) -> RetrievalOptions:
    """Return how passages are to be sought.

    Raises:
        InvalidInput: Too many passages.
    """
    if wanted.top_k > _MOST_PASSAGES:
        raise InvalidInput(f"top_k is {wanted.top_k}; allowed are 1 to {_MOST_PASSAGES}.", param="retrieval.top_k")
    return RetrievalOptions(
        collection_ids=tuple(dict.fromkeys(wanted.collection_ids)),
        filter_json=wanted.filter_json,
        top_k=wanted.top_k,
        alpha=wanted.alpha if wanted.HasField("alpha") else None,
        ranker=wanted.ranker,
        score_threshold=wanted.score_threshold if wanted.HasField("score_threshold") else None,
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def sampling(wire: sampling_pb2.Sampling) -> Sampling:
    """Return how tokens are to be drawn; the engine checks the ranges that are its own.

    Raises:
        InvalidInput: Too many answers.
    """
    if wire.n > _MOST_ANSWERS:
        raise InvalidInput(f"n is {wire.n}; allowed are 1 to {_MOST_ANSWERS}.", param="n")
    return Sampling(
        **{name: getattr(wire, name) for name in _OPTIONAL if wire.HasField(name)},
        max_tokens=wire.max_tokens,
        min_tokens=wire.min_tokens,
        stop=tuple(wire.stop),
        n=wire.n or 1,
        logprobs=wire.logprobs,
        top_logprobs=wire.top_logprobs,
        json_schema=wire.json_schema,
        json_object=wire.json_object,
        ignore_eos=wire.ignore_eos,
    )


def sampling_message(drawn: Sampling) -> sampling_pb2.Sampling:
    """Return how tokens were drawn."""
    wire = sampling_pb2.Sampling(
        max_tokens=drawn.max_tokens,
        min_tokens=drawn.min_tokens,
        stop=drawn.stop,
        n=drawn.n,
        logprobs=drawn.logprobs,
        top_logprobs=drawn.top_logprobs,
        json_schema=drawn.json_schema,
        json_object=drawn.json_object,
        ignore_eos=drawn.ignore_eos,
    )
    for name in _OPTIONAL:
        value = getattr(drawn, name)
        if value is not None:
            setattr(wire, name, value)
    return wire


def usage(counted: TokenUsage) -> sampling_pb2.TokenUsage:
    """Return token counts."""
    return sampling_pb2.TokenUsage(
        prompt_tokens=counted.prompt_tokens,
        cached_tokens=counted.cached_tokens,
        completion_tokens=counted.completion_tokens,
    )


def locator(place: Locator) -> locator_pb2.Locator:
    """Return where a text stands in its source."""
    return locator_pb2.Locator(
        page_first=place.page_first, page_last=place.page_last, heading_path=place.heading_path, part=place.part
    )


def source(found: Source) -> chat_pb2.Source:
    """Return a passage under its number."""
    passage = found.passage
    return chat_pb2.Source(
        number=found.number,
        document_id=passage.document_id,
        version=passage.version,
        collection_id=passage.collection_id,
        file_id=passage.file_id,
        filename=passage.filename,
        title=passage.title,
        locator=locator(passage.locator),
        start=passage.start,
        end=passage.end,
        text=passage.text,
        score=passage.score,
        data_json=passage.data_json,
    )


def citation(found: Citation) -> chat_pb2.Citation:
    """Return a citation with its evidence."""
    return chat_pb2.Citation(
        answer_start=found.start,
        answer_end=found.end,
        answer_text=found.text,
        evidence=[
            chat_pb2.Evidence(
                source_number=one.source_number,
                quote_start=one.start,
                quote_end=one.end,
                quote=one.quote,
                locator=locator(one.locator),
                score=one.score,
            )
            for one in found.evidence
        ],
    )


def _logprob(one: TokenLogprob) -> sampling_pb2.TokenLogprob:
    return sampling_pb2.TokenLogprob(
        token=one.token,
        token_bytes=one.token_bytes,
        logprob=one.logprob,
        top=[
            sampling_pb2.TokenAlternative(token=other.token, token_bytes=other.token_bytes, logprob=other.logprob)
            for other in one.top
        ],
    )


def queries(made: QueriesMade) -> chat_pb2.QueriesMade:
    """Return the search queries."""
    return chat_pb2.QueriesMade(queries=made.queries, method=METHOD[made.method])


def response(event: Event) -> chat_pb2.ChatResponse:
    """Return one event of a turn as the message of the stream."""
    match event:
        case TextDelta():
            return chat_pb2.ChatResponse(
                text=chat_pb2.TextDelta(
                    index=event.index,
                    text=event.text,
                    logprobs=[_logprob(one) for one in event.logprobs] if event.logprobs else None,
                    finish_reason=FINISH[event.finish_reason],
                )
            )
        case TurnStarted():
            return chat_pb2.ChatResponse(
                started=chat_pb2.TurnStarted(
                    response_id=event.response_id, conversation_id=event.conversation_id, model=event.model
                )
            )
        case QueriesMade():
            return chat_pb2.ChatResponse(queries=queries(event))
        case PassagesChosen():
            return chat_pb2.ChatResponse(
                passages=chat_pb2.PassagesChosen(sources=[source(found) for found in event.sources])
            )
        case Citation():
            return chat_pb2.ChatResponse(citation=citation(event))
        case TurnFinished():
            return chat_pb2.ChatResponse(
                finished=chat_pb2.TurnFinished(
                    finish_reason=FINISH[event.finish_reason],
                    usage=usage(event.usage),
                    receipt_id=event.receipt_id,
                    abstention=ABSTENTION[event.abstention],
                    timings=[chat_pb2.StageTiming(stage=name, seconds=seconds) for name, seconds in event.timings],
                )
            )
