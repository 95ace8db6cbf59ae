"""An answer in the words of OpenAI's chat completions: whole, or spliced into the frames of a stream.

A frame is a prebuilt prefix, the text as JSON, and a prebuilt suffix: nothing is built per token but the text itself.
Our evidence travels in extra fields, which the SDKs keep: `citations`, `receipt_id`, `abstention`, `conversation_id`.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from gateway.api.call import Call
from gateway.api.heard import HeardTurn
from gateway.api.replies import json_line
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
)
from services.chassis.errors import Internal

__all__ = ["DONE", "FINISH", "chunks", "logprobs_json", "usage_json", "whole_answer"]

DONE: Final = b"data: [DONE]\n\n"
FINISH: Final = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CANCELLED: "stop", Finish.ERROR: "stop"}


def usage_json(usage: TokenUsage) -> dict[str, Any]:
    """Return token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def logprobs_json(tokens: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    """Return tokens with their log probabilities."""
    return [_token_json(token) | {"top_logprobs": [_token_json(other) for other in token.top]} for token in tokens]


def _token_json(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token_bytes)}


def _source_json(source: Source, evidence: Evidence) -> dict[str, Any]:
    place = evidence.locator
    return {
        "type": "document",
        "id": source.document_id,
        "document_id": source.document_id,
        "version": source.version or None,
        "collection_id": source.collection_id or None,
        "file_id": source.file_id or None,
        "filename": source.filename or None,
        "title": source.title or None,
        "quote": evidence.quote,
        "quote_start": evidence.quote_start,
        "quote_end": evidence.quote_end,
        "page": place.page_first or None,
        "page_last": place.page_last or None,
        "heading_path": list(place.heading_path),
        "part": place.part or None,
        "score": evidence.score,
        **({"document": json.loads(source.data_json)} if source.data_json else {}),
    }


class _Turn(HeardTurn):
    """What has been heard of a turn, and its citations in both of their forms."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._annotated = 0

    def citation(self, made: CitationMade) -> dict[str, Any]:
        """Return a citation: `text == answer[start:end]` in code points, each source once, best first."""
        sources = [_source_json(self._source(evidence.source_number), evidence) for evidence in made.best]
        return {"start": made.start, "end": made.end, "text": made.text, "sources": sources}

    def annotations(self, made: CitationMade) -> list[dict[str, Any]]:
        """Return OpenAI's annotation for each source of a citation; `index` keeps streamed ones apart."""
        found = []
        for evidence in made.best:
            source = self._source(evidence.source_number)
            span = {
                "start_index": made.start,
                "end_index": made.end,
                "title": source.title or source.filename or source.document_id,
                "url": _url(source),
            }
            found.append({"index": self._annotated, "type": "url_citation", "url_citation": span})
            self._annotated += 1
        return found

    def _source(self, number: int) -> Source:
        source = self.sources.get(number)
        if source is None:
            raise Internal("A citation names no source.", private=f"source {number} of {len(self.sources)}")
        return source


def _url(source: Source) -> str:
    """Return where a document can be read: below this gateway, or where an inline document says it comes from."""
    if source.data_json:
        url = json.loads(source.data_json).get("url")
        return url if isinstance(url, str) and url else f"#{source.document_id}"
    return f"/brain/v1/documents/{source.document_id}/text?version={source.version}"


async def whole_answer(events: AsyncIterator[AnswerEvent], call: Call, n: int) -> dict[str, Any]:
    """Return a `chat.completion`."""
    turn = _Turn(call)
    texts: list[list[str]] = [[] for _ in range(n)]
    logprobs: list[list[dict[str, Any]]] = [[] for _ in range(n)]
    finishes = [Finish.STOP] * n
    citations: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    end = TurnFinished(Finish.ERROR, TokenUsage())
    async for event in events:
        turn.hear(event)
        match event:
            case TextMade():
                texts[event.index].append(event.text)
                logprobs[event.index] += logprobs_json(event.logprobs)
                finishes[event.index] = event.finish or finishes[event.index]
            case CitationMade():
                citations.append(turn.citation(event))
                annotations += turn.annotations(event)
            case TurnFinished():
                end = event
            case _:
                pass
    if end.finish is Finish.ERROR:
        raise Internal("The engine failed; try again.")
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": "".join(texts[index]),
                "refusal": None,
                "annotations": annotations if index == 0 else [],
            },
            "logprobs": {"content": logprobs[index], "refusal": None} if logprobs[index] else None,
            "finish_reason": FINISH[finishes[index]],
        }
        for index in range(n)
    ]
    return {
        "id": turn.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": turn.model,
        "choices": choices,
        "usage": usage_json(end.usage),
        "system_fingerprint": None,
        **({"citations": citations} if turn.sources or citations else {}),
        **turn.beside(end),
    }


class _Frames:
    """The frames of one stream."""

    __slots__ = ("_head", "_prefix", "_suffix", "_tail")

    def __init__(self, turn: _Turn, *, with_usage: bool) -> None:
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": int(time.time()), "model": turn.model}
        # With usage asked for, every chunk but the last says null.
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._head = b"data: " + json_line(head)[:-1] + b',"system_fingerprint":null'
        self._prefix: dict[int, bytes] = {}
        self._suffix = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    def text(self, index: int, text: str) -> bytes:
        """Return a frame of new text."""
        prefix = self._prefix.get(index)
        if prefix is None:
            prefix = self._prefix[index] = self._head + b',"choices":[{"index":%d,"delta":{"content":' % index
        return prefix + json_line(text) + self._suffix

    def choice(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: Any = None,
        finish: str | None = None,
        beside: dict[str, Any] | None = None,
    ) -> bytes:
        """Return any other frame of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        more = b"," + json_line(beside)[1:-1] if beside else b""
        return self._head + b',"choices":[' + json_line(choice) + b"]" + more + self._tail

    def usage(self, usage: TokenUsage) -> bytes:
        """Return the frame of token counts."""
        return self._head + b',"choices":[],"usage":' + json_line(usage_json(usage)) + b"}\n\n"


class _Splicer:
    """Turns what happens into frames.

    The finish reasons are held back until the citations are through: many a client stops reading there.
    """

    def __init__(self, call: Call, *, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._turn = _Turn(call)
        self._built: _Frames | None = None
        self._begun: set[int] = set()
        self._finishes: dict[int, Finish] = {}

    @property
    def _frames(self) -> _Frames:
        if self._built is None:
            self._built = _Frames(self._turn, with_usage=self._with_usage)
        return self._built

    def take(self, event: AnswerEvent) -> bytes:
        """Return the frames of an event; empty when it has none."""
        if isinstance(event, TextMade):
            return self._text(event)
        turn = self._turn
        turn.hear(event)
        match event:
            case CitationMade():
                delta = {"annotations": turn.annotations(event)}
                return self._frames.choice(0, delta, beside={"citations": [turn.citation(event)]})
            case TurnFinished():
                return self._end(event)
            case _:
                return b""

    def _text(self, event: TextMade) -> bytes:
        index = event.index
        frame = b""
        if index not in self._begun:
            self._begun.add(index)
            frame = self._frames.choice(index, {"role": "assistant", "content": "", "refusal": None})
        if event.finish is not None:
            self._finishes[index] = event.finish
        if event.logprobs:
            logprobs = {"content": logprobs_json(event.logprobs), "refusal": None}
            return frame + self._frames.choice(index, {"content": event.text}, logprobs=logprobs)
        return frame + self._frames.text(index, event.text) if event.text else frame

    def _end(self, event: TurnFinished) -> bytes:
        if event.finish is Finish.ERROR:
            raise Internal("The engine failed; try again.")
        beside = self._turn.beside(event)
        finishes = self._finishes or {0: event.finish}
        last = b"".join(
            self._frames.choice(index, {}, finish=FINISH[finish], beside=beside) for index, finish in finishes.items()
        )
        return last + (self._frames.usage(event.usage) if self._with_usage else b"") + DONE


async def chunks(
    events: AsyncGenerator[AnswerEvent, None], call: Call, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of a `chat.completion.chunk` stream.

    Nothing is yielded before there is text, so that what fails until then is an ordinary error.
    """
    splicer = _Splicer(call, with_usage=with_usage)
    async with aclosing(events):
        async for event in events:
            if frame := splicer.take(event):
                yield frame
