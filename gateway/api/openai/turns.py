"""A chat request as a turn of ours. What we do not offer is refused by the field's name."""

import json
from dataclasses import replace
from typing import Any

from gateway.api.grounding import grounded_turn
from gateway.api.openai.requests import ChatBody, ResponseFormat, Turn
from gateway.domain.asking import ChatTurn, Message, Sampling
from services.chassis.errors import InvalidInput

__all__ = ["chat_turn"]


def chat_turn(body: ChatBody) -> ChatTurn:
    """Return the turn that the request asks for.

    Raises:
        InvalidInput: A field asks for something that is not offered, or says nothing.
    """
    _refuse_what_is_not_offered(body)
    messages = [_message(place, turn) for place, turn in enumerate(body.messages)]
    return grounded_turn(body, messages, _sampling(body))


def _refuse_what_is_not_offered(body: ChatBody) -> None:
    for name, given in (
        ("tools", body.tools),
        ("functions", body.functions),
        ("audio", body.audio),
        ("web_search_options", body.web_search_options),
        ("logit_bias", body.logit_bias),
    ):
        if given:
            raise InvalidInput(f"{name}: not offered yet; send the request without it.", param=name)
    for name, choice in (("tool_choice", body.tool_choice), ("function_call", body.function_call)):
        if choice not in (None, "none", "auto"):
            raise InvalidInput(f"{name} {choice!r} needs tools, which are not offered yet.", param=name)
    if any(kind != "text" for kind in body.modalities):
        raise InvalidInput(f"modalities {body.modalities} are not offered; use ['text'].", param="modalities")
    if body.top_logprobs and not body.logprobs:
        raise InvalidInput("top_logprobs needs logprobs to be true.", param="top_logprobs")


def _message(place: int, turn: Turn) -> Message:
    param = f"messages[{place}]"
    if turn.role in {"tool", "function"} or turn.tool_calls or turn.function_call:
        raise InvalidInput(f"{param}: tools are not offered yet, nor are their calls and results.", param=param)
    role = "system" if turn.role == "developer" else turn.role
    if turn.content is None:
        raise InvalidInput(f"{param}.content: this field is required.", param=f"{param}.content")
    if isinstance(turn.content, str):
        return Message(role, turn.content)
    return Message(role, "".join(_part(f"{param}.content[{place}]", part) for place, part in enumerate(turn.content)))


def _part(param: str, part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind not in {"text", "input_text", "refusal"}:
        raise InvalidInput(f"{param}.type: {kind!r} is not offered; the parts of a message are text.", param=param)
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise InvalidInput(f"{param}.text must be a string.", param=f"{param}.text")
    return text


def _sampling(body: ChatBody) -> Sampling:
    schema, json_object = _form(body.response_format)
    drawn = body.sampling()
    return replace(
        drawn,
        max_tokens=body.max_completion_tokens or drawn.max_tokens,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        json_schema=schema,
        json_object=json_object,
    )


def _form(wanted: ResponseFormat | None) -> tuple[str, bool]:
    """Return the JSON Schema (empty for none) and whether the text must be a JSON object."""
    if wanted is None or wanted.type == "text":
        return "", False
    if wanted.type == "json_object":
        return "", True
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise InvalidInput(
            "response_format.json_schema.schema: this field is required.", param="response_format.json_schema.schema"
        )
    return json.dumps(wanted.json_schema.schema_), False
