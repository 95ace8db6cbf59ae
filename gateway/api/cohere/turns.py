"""A request of Cohere's v2 chat as a turn of ours. What we do not offer is refused by the field's name."""

import json
from typing import Any, Final

from gateway.api.cohere.requests import ChatBody, ChatMessage, ResponseFormat
from gateway.api.grounding import grounded_turn
from gateway.domain.asking import ChatTurn, Message, Sampling
from services.chassis.errors import InvalidInput

__all__ = ["chat_turn"]

# The defaults of Cohere's API, which its users have tuned their prompts with.
_TEMPERATURE: Final = 0.3
_P: Final = 0.75


def chat_turn(body: ChatBody) -> ChatTurn:
    """Return the turn that the request asks for.

    Raises:
        InvalidInput: A field asks for something that is not offered, or says nothing.
    """
    _refuse_what_is_not_offered(body)
    messages = [_message(place, message) for place, message in enumerate(body.messages)]
    if messages[-1].role != "user":
        raise InvalidInput(
            f"messages must end with a user turn; the last one is of role {messages[-1].role}.",
            param=f"messages[{len(messages) - 1}].role",
        )
    return grounded_turn(body, messages, _sampling(body))


def _refuse_what_is_not_offered(body: ChatBody) -> None:
    if body.tools:
        raise InvalidInput("tools are not offered: send the request without them.", param="tools")
    if body.tool_choice not in (None, "", "NONE", "none", "auto"):
        raise InvalidInput(f"tool_choice {body.tool_choice} needs tools, which are not offered.", param="tool_choice")
    if body.thinking is not None and body.thinking.get("type") != "disabled":
        raise InvalidInput("thinking is not offered: leave it out or set its type to disabled.", param="thinking")
    if body.safety_mode == "STRICT":
        raise InvalidInput(
            "safety_mode STRICT is not offered: no safety instruction is added to prompts; use CONTEXTUAL or OFF.",
            param="safety_mode",
        )


def _message(place: int, message: ChatMessage) -> Message:
    param = f"messages[{place}]"
    if message.role == "tool":
        raise InvalidInput("Tool results are not offered: tools are not.", param=f"{param}.role")
    if message.tool_calls:
        raise InvalidInput("Tool calls are not offered: tools are not.", param=f"{param}.tool_calls")
    if message.content is None:
        raise InvalidInput(f"{param}.content is missing.", param=f"{param}.content")
    if isinstance(message.content, str):
        return Message(role=message.role, content=message.content)
    texts = [_part(f"{param}.content[{number}]", part) for number, part in enumerate(message.content)]
    return Message(role=message.role, content="".join(texts))


def _part(param: str, part: dict[str, Any]) -> str:
    kind = part.get("type", "text")
    if kind == "thinking":
        # What a model thought earlier is no part of what was said.
        return ""
    if kind != "text":
        raise InvalidInput(
            f"{param}.type {kind!r} is not offered; the parts of a turn are text.", param=f"{param}.type"
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise InvalidInput(f"{param}.text must be a string.", param=f"{param}.text")
    return text


def _sampling(body: ChatBody) -> Sampling:
    schema, json_object = _form(body.response_format)
    return Sampling(
        temperature=_TEMPERATURE if body.temperature is None else body.temperature,
        top_p=_P if body.p is None else body.p,
        top_k=body.k,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        max_tokens=body.max_tokens or 0,
        stop=tuple(body.stop_sequences),
        seed=body.seed,
        logprobs=bool(body.logprobs),
        json_schema=schema,
        json_object=json_object,
    )


def _form(wanted: ResponseFormat | None) -> tuple[str, bool]:
    """Return the JSON Schema (empty for none) and whether the text must be a JSON object."""
    if wanted is None or wanted.type == "text":
        return "", False
    schema = wanted.json_schema or wanted.schema_
    return ("", True) if schema is None else (json.dumps(schema), False)
