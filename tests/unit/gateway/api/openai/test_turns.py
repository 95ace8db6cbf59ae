import json
from typing import Any

import pytest

from gateway.api.bodies import validated
from gateway.api.openai.requests import ChatBody, SearchBody, StoreBody
from gateway.api.openai.turns import chat_turn
from gateway.domain.asking import ChatTurn, CitationMode, Message
from services.chassis.errors import InvalidInput

HELLO = [{"role": "user", "content": "hello"}]


def turn(**fields: Any) -> ChatTurn:
    return chat_turn(validated(ChatBody, {"model": "default", "messages": HELLO, **fields}))


def test_roles_and_parts_become_plain_turns() -> None:
    made = turn(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "he"}, {"type": "text", "text": "llo"}]},
        ]
    )
    assert made.messages == (Message("system", "Be brief."), Message("user", "hello"))


def test_how_tokens_are_drawn_is_taken_over() -> None:
    schema = {"type": "object"}
    made = turn(
        temperature=0,
        max_tokens=9,
        max_completion_tokens=5,
        n=2,
        stop="end",
        seed=1,
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    ).sampling
    assert (made.temperature, made.max_tokens, made.n, made.stop, made.seed) == (0, 5, 2, ("end",), 1)
    assert (made.logprobs, made.top_logprobs, json.loads(made.json_schema)) == (True, 3, schema)


def test_nulls_are_not_given() -> None:
    made = turn(temperature=None, stop=None, tools=None, response_format=None, documents=None, collections=None)
    assert not made.is_grounded
    assert made.sampling.temperature is None


def test_grounding_rides_beside_openais_fields() -> None:
    made = turn(
        collections=["vs_1"],
        documents=["a text", {"id": "d", "data": {"text": "another"}}],
        filters={"type": "eq", "key": "k", "value": 1},
        citation_options={"mode": "fast"},
    )
    assert made.is_grounded
    assert [document.id for document in made.documents] == ["doc:0", "d"]
    assert json.loads(made.retrieval.filter_json)["key"] == "k"
    assert made.citation_mode is CitationMode.FAST


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"messages": [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}, *HELLO]}, "messages[0]"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"temperature": 9}, "temperature"),
        ({"n": 99}, "n"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"documents": [{"data": {}}]}, "documents[0]"),
    ],
)
def test_what_is_wrong_or_not_offered_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        turn(**fields)
    assert caught.value.param == param
    assert param.split("[", maxsplit=1)[0].split(".", maxsplit=1)[0] in caught.value.message


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        (StoreBody, {"metadata": {"k": "v" * 513}}, "metadata.k"),
        (StoreBody, {"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        (
            StoreBody,
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 60},
                }
            },
            "chunking_strategy.static",
        ),
        (SearchBody, {"query": "x", "max_num_results": 51}, "max_num_results"),
        (SearchBody, {}, "query"),
    ],
)
def test_bodies_name_the_field_at_fault(model: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validated(model, fields)
    assert caught.value.param == param
