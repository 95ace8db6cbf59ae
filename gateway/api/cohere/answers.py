"""An answer in the words of Cohere's v2 chat: whole, or as the events of a stream."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from gateway.api.call import Call
from gateway.api.heard import HeardTurn
from gateway.domain.asking import (
    AnswerEvent,
    CitationMade,
    Evidence,
    Finish,
    Source,
    TextMade,
    TokenLogprob,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)

__all__ = ["citation_json", "failed_end", "stream_events", "whole_answer"]

_FINISH: Final = {
    Finish.STOP: "COMPLETE",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.CANCELLED: "TIMEOUT",
    Finish.ERROR: "ERROR",
}
_ONLY_BLOCK: Final = 0  # text answers have one content block


def citation_json(citation: CitationMade, sources: Mapping[int, Source]) -> dict[str, Any]:
    """Return a citation: `text == answer[start:end]`, `end` exclusive, each source once (its best quote)."""
    return {
        "start": citation.start,
        "end": citation.end,
        "text": citation.text,
        "content_index": _ONLY_BLOCK,
        "type": "TEXT_CONTENT",
        "sources": [_source_json(sources[evidence.source_number], evidence) for evidence in citation.best],
    }


def _source_json(source: Source, evidence: Evidence) -> dict[str, Any]:
    """Return a source. Beside Cohere's fields stands what our own evidence adds: the exact quote and its place."""
    return {
        "type": "document",
        "id": source.document_id,
        "document": _document_json(source),
        "quote": evidence.quote,
        "quote_start": evidence.quote_start,
        "quote_end": evidence.quote_end,
        "page": evidence.locator.page_first or None,
        "heading_path": list(evidence.locator.heading_path),
        "version": source.version or None,
        "score": evidence.score,
    }


def _document_json(source: Source) -> dict[str, Any]:
    """Return the document: an inline one as it was given, a stored one as the passage that was read."""
    if source.data_json:
        return {"id": source.document_id, **json.loads(source.data_json)}
    return {
        "id": source.document_id,
        "title": source.title,
        "text": source.text,
        "filename": source.filename,
        "collection_id": source.collection_id,
        "file_id": source.file_id,
    }


def _usage_json(usage: TokenUsage, searches: int) -> dict[str, Any]:
    tokens = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    return {
        "billed_units": tokens | {"search_units": searches},
        "tokens": tokens,
        "cached_tokens": usage.cached_tokens,
    }


def _logprobs_json(logprobs: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    # Token ids are the engine's own affair and stay behind it; the SDK wants the list to be there.
    return [{"text": token.token, "token_ids": [], "logprobs": [token.logprob]} for token in logprobs]


async def whole_answer(events: AsyncIterator[AnswerEvent], call: Call) -> dict[str, Any]:
    """Return the whole answer."""
    turn, text = HeardTurn(call), ""
    citations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []
    end = TurnFinished(finish=Finish.ERROR, usage=TokenUsage())
    async for event in events:
        turn.hear(event)
        match event:
            case TextMade():
                text += event.text
                logprobs += _logprobs_json(event.logprobs)
            case CitationMade():
                citations.append(citation_json(event, turn.sources))
            case TurnFinished():
                end = event
            case _:
                pass
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    if citations:
        message["citations"] = citations
    answer: dict[str, Any] = {
        "id": turn.id,
        "finish_reason": _FINISH[end.finish],
        "message": message,
        "usage": _usage_json(end.usage, turn.searches),
        "model": turn.model,
        **turn.beside(end),
    }
    if logprobs:
        answer["logprobs"] = logprobs
    return answer


async def stream_events(events: AsyncIterator[AnswerEvent], call: Call) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of the stream, in the order that Cohere's SDKs read them."""
    turn, count = HeardTurn(call), 0
    async for event in events:
        turn.hear(event)
        match event:
            case TurnStarted():
                message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
                yield {"type": "message-start", "id": turn.id, "delta": {"message": message}}
                yield {
                    "type": "content-start",
                    "index": _ONLY_BLOCK,
                    "delta": {"message": {"content": {"type": "text", "text": ""}}},
                }
            case TextMade(text=text) if text:
                delta = {
                    "type": "content-delta",
                    "index": _ONLY_BLOCK,
                    "delta": {"message": {"content": {"text": text}}},
                }
                for logprob in _logprobs_json(event.logprobs)[:1]:
                    # A delta has room for one item: the tokens of this step together.
                    logprob |= {"text": text, "logprobs": [token.logprob for token in event.logprobs]}
                    delta["logprobs"] = logprob
                yield delta
            case CitationMade():
                citation = citation_json(event, turn.sources)
                yield {"type": "citation-start", "index": count, "delta": {"message": {"citations": citation}}}
                yield {"type": "citation-end", "index": count}
                count += 1
            case TurnFinished():
                yield {"type": "content-end", "index": _ONLY_BLOCK}
                yield {
                    "type": "message-end",
                    "id": turn.id,
                    "delta": {"finish_reason": _FINISH[event.finish], "usage": _usage_json(event.usage, turn.searches)},
                    "model": turn.model,
                    **turn.beside(event),
                }
            case _:
                pass


def failed_end(message: str, *, timed_out: bool = False) -> dict[str, Any]:
    """Return the last event of a stream that broke."""
    return {
        "type": "message-end",
        "delta": {
            "error": message,
            "finish_reason": "TIMEOUT" if timed_out else "ERROR",
            "usage": _usage_json(TokenUsage(), 0),
        },
    }
