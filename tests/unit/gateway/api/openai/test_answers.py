import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.call import Call
from gateway.api.openai.answers import DONE, chunks, whole_answer
from gateway.domain.asking import (
    Abstention,
    AnswerEvent,
    CitationMade,
    Evidence,
    Finish,
    Locator,
    PassagesChosen,
    Source,
    TextMade,
    TokenLogprob,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)
from services.chassis.errors import Internal

PLACE = Locator(page_first=4, page_last=4, heading_path=("Leave",))
STORED = Source(1, "doc_1", 2, "vs_1", "file-1", "leave.md", "Leave", PLACE, 10, 50, "Leave is 26 weeks.", 0.9, "")
INLINE = Source(
    2, "dogs", 0, "", "", "", "", Locator(), 0, 20, "Dogs on Wednesdays.", 0.8, '{"url":"https://a.example/d"}'
)
ANSWER = 'Leave – "paid" – is 26 weeks.\n'
EVIDENCE = (
    Evidence(1, 10, 28, "Leave is 26 weeks.", PLACE, 0.9),
    Evidence(1, 12, 20, "ave is", PLACE, 0.5),
    Evidence(2, 0, 4, "Dogs", Locator(), 0.4),
)
GROUNDED: list[AnswerEvent] = [
    TurnStarted("resp_1", "conv_1", "base"),
    PassagesChosen((STORED, INLINE)),
    *(TextMade(0, piece) for piece in ANSWER),
    TextMade(0, "", finish=Finish.STOP),
    CitationMade(0, 29, ANSWER[:29], EVIDENCE),
    TurnFinished(Finish.STOP, TokenUsage(7, 3, 5), "rcpt_1"),
]


async def happen(events: list[AnswerEvent]) -> AsyncGenerator[AnswerEvent, None]:
    for event in events:
        yield event


async def streamed(call: Call, events: list[AnswerEvent], *, with_usage: bool = False) -> list[dict[str, Any]]:
    data = b"".join([frame async for frame in chunks(happen(events), call, with_usage=with_usage)])
    assert data.endswith(DONE)
    frames = data.removesuffix(DONE).decode().split("\n\n")
    assert frames.pop() == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


async def test_a_stream_spells_the_answer_and_ends_with_reason_and_receipt(call: Call) -> None:
    frames = await streamed(call, GROUNDED)
    assert frames[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames) == ANSWER
    assert {frame["id"] for frame in frames} == {"resp_1"}
    assert frames[-1]["choices"][0]["finish_reason"] == "stop"
    assert (frames[-1]["receipt_id"], frames[-1]["conversation_id"]) == ("rcpt_1", "conv_1")
    # Many a client stops at the finish reason: the citations come before it.
    assert [bool(frame.get("citations")) for frame in frames[-2:]] == [True, False]
    assert all("usage" not in frame for frame in frames)


async def test_a_frame_is_one_line_to_every_reader(call: Call) -> None:
    # Line ends to Unicode, and so to `str.splitlines`; pages of PDF files hold them.
    text = "Leave\u2028is\u2029 26\x85 weeks"
    source = replace(STORED, title=text, text=text)
    events = [*GROUNDED[:1], PassagesChosen((source,)), TextMade(0, text), *GROUNDED[-3:-2]]
    events += [CitationMade(0, 5, text, (Evidence(1, 0, 5, text, PLACE, 0.9),)), GROUNDED[-1]]
    data = b"".join([frame async for frame in chunks(happen(events), call, with_usage=True)]).decode()
    assert data.splitlines() == data.split("\n")[:-1]
    assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in await streamed(call, events)) == text


async def test_usage_comes_last_when_it_is_asked_for(call: Call) -> None:
    frames = await streamed(call, GROUNDED, with_usage=True)
    assert all(frame["usage"] is None for frame in frames[:-1])
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"]["total_tokens"] == 12
    assert frames[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_a_whole_answer_carries_its_evidence(call: Call) -> None:
    answer = await whole_answer(happen(GROUNDED), call, 1)
    message = answer["choices"][0]["message"]
    assert message["content"] == ANSWER
    (citation,) = answer["citations"]
    assert ANSWER[citation["start"] : citation["end"]] == citation["text"]
    first, second = citation["sources"]
    assert (first["filename"], first["version"], first["page"], first["heading_path"]) == ("leave.md", 2, 4, ["Leave"])
    # Each source once, by its best quote.
    assert first["quote"] == "Leave is 26 weeks."
    assert (second["id"], second["document"]) == ("dogs", {"url": "https://a.example/d"})
    spans = [annotation["url_citation"] for annotation in message["annotations"]]
    assert [span["title"] for span in spans] == ["Leave", "dogs"]
    assert [span["url"] for span in spans] == ["/brain/v1/documents/doc_1/text?version=2", "https://a.example/d"]
    assert (call.spent, call.object_id) == ([("base", TokenUsage(7, 3, 5))], "resp_1")


async def test_a_refusal_is_marked(call: Call) -> None:
    events: list[AnswerEvent] = [
        TurnStarted("resp_1", "", "base"),
        TextMade(0, "Not in the documents.", finish=Finish.STOP),
        TurnFinished(Finish.STOP, TokenUsage(), "rcpt_1", Abstention.NOT_SUPPORTED),
    ]
    assert (await streamed(call, events))[-1]["abstention"] == "not_supported"
    assert (await whole_answer(happen(events), call, 1))["abstention"] == "not_supported"


async def test_several_answers_and_their_log_probabilities_are_kept_apart(call: Call) -> None:
    token = TokenLogprob("a", b"a", -0.5, (TokenLogprob("b", b"b", -1.0),))
    events: list[AnswerEvent] = [
        TurnStarted("resp_1", "", "base"),
        TextMade(1, "a", (token,)),
        TextMade(0, "x", finish=Finish.LENGTH),
        TextMade(1, "", finish=Finish.STOP),
        TurnFinished(Finish.LENGTH, TokenUsage()),
    ]
    left, right = (await whole_answer(happen(events), call, 2))["choices"]
    assert (left["message"]["content"], left["finish_reason"], left["logprobs"]) == ("x", "length", None)
    assert right["logprobs"]["content"][0] == {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [98]}],
    }
    frames = await streamed(call, events)
    assert {frame["choices"][0]["index"]: frame["choices"][0]["finish_reason"] for frame in frames} == {
        0: "length",
        1: "stop",
    }


async def test_a_failed_engine_is_an_error_and_not_a_short_answer(call: Call) -> None:
    events: list[AnswerEvent] = [TurnStarted("r", "", "base"), TurnFinished(Finish.ERROR, TokenUsage())]
    with pytest.raises(Internal):
        await whole_answer(happen(events), call, 1)
    with pytest.raises(Internal):
        await streamed(call, events)
