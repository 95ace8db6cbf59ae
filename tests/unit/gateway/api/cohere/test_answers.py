import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.api.call import Call
from gateway.api.cohere.answers import failed_end, stream_events, whole_answer
from gateway.api.cohere.chat import takes_events
from gateway.domain.asking import (
    Abstention,
    AnswerEvent,
    CitationMade,
    Evidence,
    Finish,
    Locator,
    PassagesChosen,
    QueriesMade,
    Source,
    TextMade,
    TokenLogprob,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)

TEXT = "Dogs may come on Wednesdays 🐕. Ask Imke."


def source(number: int, *, data_json: str = "", version: int = 2) -> Source:
    return Source(
        number=number,
        document_id="dogs" if data_json else "doc_1",
        version=0 if data_json else version,
        collection_id="" if data_json else "vs_1",
        file_id="" if data_json else "file-1",
        filename="" if data_json else "dogs.md",
        title="Office dogs",
        locator=Locator(),
        start=10,
        end=60,
        text="Dogs may come to the office on Wednesdays.",
        score=0.9,
        data_json=data_json,
    )


def evidence(number: int, quote: str = "on Wednesdays", page: int = 3) -> Evidence:
    return Evidence(
        source_number=number,
        quote_start=38,
        quote_end=51,
        quote=quote,
        locator=Locator(page_first=page, page_last=page, heading_path=("Office", "Dogs")),
        score=0.8,
    )


START = TurnStarted(response_id="resp_1", conversation_id="", model="base")
USAGE = TokenUsage(prompt_tokens=20, cached_tokens=8, completion_tokens=7)
END = TurnFinished(finish=Finish.STOP, usage=USAGE, receipt_id="rcpt_1")
CITATION = CitationMade(start=0, end=29, text=TEXT[:29], evidence=(evidence(1), evidence(1, "office", 4), evidence(2)))
GROUNDED: Sequence[AnswerEvent] = (
    START,
    QueriesMade(queries=("dogs office",), method="self_contained"),
    PassagesChosen(sources=(source(1), source(2, data_json='{"title": "Office dogs", "text": "…"}'))),
    TextMade(index=0, text=TEXT[:12]),
    TextMade(index=0, text=""),
    TextMade(index=0, text=TEXT[12:], finish=Finish.STOP),
    CITATION,
    END,
)


async def said(events: Sequence[AnswerEvent]) -> AsyncIterator[AnswerEvent]:
    for event in events:
        yield event


async def streamed(call: Call, events: Sequence[AnswerEvent]) -> list[dict[str, Any]]:
    return [event async for event in stream_events(said(events), call)]


async def test_a_citation_is_a_span_of_the_answer_with_each_source_once(call: Call) -> None:
    answer = await whole_answer(said(GROUNDED), call)
    text = answer["message"]["content"][0]["text"]
    assert text == TEXT
    (citation,) = answer["message"]["citations"]
    assert text[citation["start"] : citation["end"]] == citation["text"]
    assert citation["type"] == "TEXT_CONTENT"
    assert [one["id"] for one in citation["sources"]] == ["doc_1", "dogs"]


async def test_a_stored_passage_brings_its_text_name_and_exact_quote(call: Call) -> None:
    answer = await whole_answer(said(GROUNDED), call)
    stored = answer["message"]["citations"][0]["sources"][0]
    assert stored["document"] == {
        "id": "doc_1",
        "title": "Office dogs",
        "text": "Dogs may come to the office on Wednesdays.",
        "filename": "dogs.md",
        "collection_id": "vs_1",
        "file_id": "file-1",
    }
    assert (stored["quote"], stored["page"], stored["heading_path"]) == ("on Wednesdays", 3, ["Office", "Dogs"])


async def test_an_inline_document_comes_back_as_it_was_given(call: Call) -> None:
    answer = await whole_answer(said(GROUNDED), call)
    inline = answer["message"]["citations"][0]["sources"][1]
    assert inline["document"] == {"id": "dogs", "title": "Office dogs", "text": "…"}
    assert inline["version"] is None


async def test_usage_and_evidence_stand_beside_the_answer(call: Call) -> None:
    answer = await whole_answer(said(GROUNDED), call)
    assert answer["usage"] == {
        "billed_units": {"input_tokens": 20, "output_tokens": 7, "search_units": 1},
        "tokens": {"input_tokens": 20, "output_tokens": 7},
        "cached_tokens": 8,
    }
    assert (answer["id"], answer["finish_reason"], answer["receipt_id"]) == ("resp_1", "COMPLETE", "rcpt_1")
    assert (call.spent, call.object_id) == ([("base", USAGE)], "resp_1")
    assert "conversation_id" not in answer
    assert "abstention" not in answer


async def test_an_answer_without_documents_has_no_citations_and_no_searches(call: Call) -> None:
    answer = await whole_answer(said((START, TextMade(index=0, text="Hello."), END)), call)
    assert "citations" not in answer["message"]
    assert answer["usage"]["billed_units"]["search_units"] == 0


async def test_abstention_is_told(call: Call) -> None:
    end = TurnFinished(finish=Finish.STOP, usage=USAGE, receipt_id="rcpt_1", abstention=Abstention.NOT_SUPPORTED)
    assert (await whole_answer(said((START, end)), call))["abstention"] == "not_supported"
    assert (await streamed(call, (START, end)))[-1]["abstention"] == "not_supported"


@pytest.mark.parametrize(
    ("finish", "name"),
    [(Finish.STOP, "COMPLETE"), (Finish.LENGTH, "MAX_TOKENS"), (Finish.ERROR, "ERROR"), (Finish.CANCELLED, "TIMEOUT")],
)
async def test_every_way_to_end_has_cohere_s_name(finish: Finish, name: str, call: Call) -> None:
    end = TurnFinished(finish=finish, usage=USAGE)
    assert (await whole_answer(said((START, end)), call))["finish_reason"] == name
    assert (await streamed(call, (START, end)))[-1]["delta"]["finish_reason"] == name


async def test_the_stream_has_the_order_that_the_sdk_reads(call: Call) -> None:
    events = await streamed(call, GROUNDED)
    assert [event["type"] for event in events] == [
        "message-start",
        "content-start",
        "content-delta",
        "content-delta",
        "citation-start",
        "citation-end",
        "content-end",
        "message-end",
    ]
    assert "".join(e["delta"]["message"]["content"]["text"] for e in events if e["type"] == "content-delta") == TEXT
    assert isinstance(events[4]["delta"]["message"]["citations"], dict)
    assert events[-1]["delta"]["usage"]["billed_units"]["output_tokens"] == 7
    assert events[-1]["receipt_id"] == "rcpt_1"
    json.dumps(events)


async def test_citations_are_sent_when_they_come(call: Call) -> None:
    early = (*GROUNDED[:4], CITATION, *GROUNDED[5:])
    kinds = [event["type"] for event in await streamed(call, early)]
    assert kinds.index("citation-start") < max(place for place, kind in enumerate(kinds) if kind == "content-delta")


async def test_log_probabilities_go_with_their_text(call: Call) -> None:
    tokens = tuple(TokenLogprob(token=word, token_bytes=word.encode(), logprob=-0.5) for word in ("Hel", "lo"))
    events = (START, TextMade(index=0, text="Hello", logprobs=tokens), END)
    assert (await whole_answer(said(events), call))["logprobs"] == [
        {"text": "Hel", "token_ids": [], "logprobs": [-0.5]},
        {"text": "lo", "token_ids": [], "logprobs": [-0.5]},
    ]
    assert (await streamed(call, events))[2]["logprobs"] == {"text": "Hello", "token_ids": [], "logprobs": [-0.5, -0.5]}


def test_a_broken_stream_ends_with_the_reason() -> None:
    assert failed_end("gone")["delta"]["finish_reason"] == "ERROR"
    assert failed_end("gone")["delta"]["error"] == "gone"
    assert failed_end("late", timed_out=True)["delta"]["finish_reason"] == "TIMEOUT"


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/event-stream", "application/json, text/event-stream;q=0.5", "text/*"]
)
def test_events_are_sent_to_whom_takes_them(accept: str) -> None:
    assert takes_events(accept)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson, application/json"])
def test_lines_are_sent_to_whom_takes_json_only(accept: str) -> None:
    assert not takes_events(accept)
