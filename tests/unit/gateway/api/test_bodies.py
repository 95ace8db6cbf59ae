"""Bodies of any shape are taken or told what is wrong with them."""

import pytest
from pydantic import BaseModel

from gateway.api.bodies import called, parse
from gateway.api.openai.requests import ChatBody, CompletionBody, EmbeddingBody
from services.chassis.errors import InvalidInput, NotFound

MESSAGES = b'"model":"default","messages":[{"role":"user","content":"hi"}]'


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (EmbeddingBody, b'{"input":[-1]}', "input[0]"),
        (EmbeddingBody, b'{"input":[[1,4294967296]]}', "input[0][1]"),
        (CompletionBody, b'{"model":"default","prompt":[7,-1]}', "prompt[1]"),
        (CompletionBody, b'{"model":"default","prompt":"x","max_tokens":4294967296}', "max_tokens"),
        (ChatBody, b"{" + MESSAGES + b',"max_completion_tokens":4294967296}', "max_completion_tokens"),
        (ChatBody, b"{" + MESSAGES + b',"min_tokens":4294967296}', "min_tokens"),
    ],
)
def test_numbers_that_no_room_can_count_are_refused_by_name(model: type[BaseModel], body: bytes, param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(model, body)
    assert refused.value.param == param


@pytest.mark.parametrize("unit", [(b'{"a":', b"}"), (b"[", b"]")])
def test_nesting_has_an_end(unit: tuple[bytes, bytes]) -> None:
    def filters(depth: int) -> bytes:
        nested = unit[0] * depth + b"1" + unit[1] * depth
        return b"{" + MESSAGES + b',"filters":{"value":' + nested + b"}}"

    parse(ChatBody, filters(90))
    with pytest.raises(InvalidInput, match="nested"):
        parse(ChatBody, filters(110))


def test_what_a_room_finds_wrong_is_told_in_the_callers_words() -> None:
    with pytest.raises(InvalidInput, match=r"model: 'x' is not offered\.") as told, called("ranker", "model"):
        raise InvalidInput("ranker: 'x' is not offered.", param="ranker")
    assert told.value.param == "model"
    with pytest.raises(InvalidInput) as other, called("ranker", "model"):
        raise InvalidInput("top_n: 0.", param="top_n")
    assert other.value.param == "top_n"
    with pytest.raises(NotFound, match=r"model: none\.") as missing, called("ranker", "model"):
        raise NotFound("ranker: none.", param="ranker")
    assert missing.value.param == "model"
    # What lies within the field, and nothing that only begins like it.
    with (
        pytest.raises(InvalidInput, match=r"method\.grader\.parts\[1\]: no\.") as within,
        called("grader", "method.grader"),
    ):
        raise InvalidInput("grader.parts[1]: no.", param="grader.parts[1]")
    assert within.value.param == "method.grader.parts[1]"
    with pytest.raises(InvalidInput) as alike, called("grader", "method.grader"):
        raise InvalidInput("graders: no.", param="graders")
    assert alike.value.param == "graders"
