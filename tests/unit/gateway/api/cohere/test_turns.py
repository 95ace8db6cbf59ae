import json
from typing import Any

import pytest

from gateway.api.bodies import validated
from gateway.api.cohere.requests import ChatBody
from gateway.api.cohere.turns import chat_turn
from gateway.domain.asking import ChatTurn, CitationMode, Grounding, Message
from services.chassis.errors import InvalidInput

HELLO = [{"role": "user", "content": "hello"}]


def turn(**fields: Any) -> ChatTurn:
    return chat_turn(validated(ChatBody, {"model": "base", "messages": HELLO} | fields))


def refused(**fields: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        turn(**fields)
    return caught.value


def test_cohere_s_names_become_ours() -> None:
    sampling = turn(
        max_tokens=9,
        stop_sequences=["END"],
        temperature=0.7,
        p=0.9,
        k=40,
        seed=5,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logprobs=True,
    ).sampling
    assert (sampling.max_tokens, sampling.stop, sampling.temperature) == (9, ("END",), 0.7)
    assert (sampling.top_p, sampling.top_k, sampling.seed) == (0.9, 40, 5)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.logprobs) == (0.1, 0.2, True)


def test_cohere_s_defaults_hold_and_nulls_mean_nothing_given() -> None:
    bare = turn(documents=None, tools=None, stop_sequences=None, p=None, citation_options=None, collections=None)
    assert (bare.sampling.temperature, bare.sampling.top_p) == (0.3, 0.75)
    assert bare.citation_mode is CitationMode.DEFAULT
    assert not bare.is_grounded


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("FAST", CitationMode.FAST),
        ("fast", CitationMode.FAST),
        ("Accurate", CitationMode.ACCURATE),
        ("off", CitationMode.OFF),
        ("DISABLED", CitationMode.OFF),
        ("enabled", CitationMode.DEFAULT),
        (None, CitationMode.DEFAULT),
    ],
)
def test_modes_are_read_in_any_case(mode: str | None, expected: CitationMode) -> None:
    assert turn(citation_options={"mode": mode}).citation_mode is expected


def test_parts_are_joined_and_thoughts_left_out() -> None:
    messages = [
        {"role": "SYSTEM", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]},
        {"role": "user", "content": "again"},
    ]
    assert turn(messages=messages).messages == (
        Message("system", "Be brief."),
        Message("user", "hello"),
        Message("assistant", "hi"),
        Message("user", "again"),
    )


def test_documents_are_numbered_and_come_back_as_given() -> None:
    documents = turn(
        documents=[
            "Lunch costs seven euros.",
            {"data": {"title": "Dogs", "snippet": "Wednesdays.", "author": "Imke"}, "id": "d"},
            {"data": {"name": "Parking", "closes": 21}},
        ]
    ).documents
    assert [one.id for one in documents] == ["doc:0", "d", "doc:2"]
    assert [one.text for one in documents] == [
        "Lunch costs seven euros.",
        "author: Imke\nWednesdays.",
        "name: Parking\ncloses: 21",
    ]
    assert documents[1].title == "Dogs"
    assert json.loads(documents[1].data_json) == {"title": "Dogs", "snippet": "Wednesdays.", "author": "Imke"}


def test_collections_and_how_to_search_them_come_beside() -> None:
    asked = turn(collections=["vs_1"], filters={"type": "eq", "key": "a", "value": 1}, top_k=4, grounding="open")
    assert asked.is_grounded
    assert asked.retrieval.collection_ids == ("vs_1",)
    assert json.loads(asked.retrieval.filter_json)["key"] == "a"
    assert (asked.retrieval.top_k, asked.grounding) == (4, Grounding.OPEN)


def test_a_schema_is_taken_under_either_name() -> None:
    schema = {"type": "object"}
    for name in ("schema", "json_schema"):
        assert json.loads(turn(response_format={"type": "json_object", name: schema}).sampling.json_schema) == schema
    assert turn(response_format={"type": "json_object"}).sampling.json_object is True
    assert turn(response_format={"type": "text"}).sampling.json_object is False


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "REQUIRED"}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"safety_mode": "STRICT"}, "safety_mode"),
        ({"messages": []}, "messages"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "hi"}]}, "messages[1].role"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}, *HELLO]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"temperature": -1}, "temperature"),
        ({"p": 0}, "p"),
        ({"k": 501}, "k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop_sequences": list("abcdef")}, "stop_sequences"),
        ({"citation_options": {"mode": "LOUD"}}, "citation_options.mode"),
        ({"documents": [{"data": {"title": ""}}]}, "documents[0]"),
        ({"top_k": 51}, "top_k"),
    ],
)
def test_what_is_wrong_or_not_offered_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param
