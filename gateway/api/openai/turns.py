"""A chat request as a turn of ours. What we do not offer is refused by the field's name."""

import json
from typing import Any, Final

from gateway.api.cohere.documents import inline_documents
from gateway.api.openai.requests import ChatBody, ResponseFormat, Turn
from gateway.domain.asking import ChatTurn, CitationMode, Grounding, Message, RetrievalOptions, Sampling
from services.chassis.errors import InvalidInput

__all__ = ["chat_turn"]

_MODES: Final = {
    None: CitationMode.DEFAULT,
    "ENABLED": CitationMode.DEFAULT,
    "ACCURATE": CitationMode.ACCURATE,
    "FAST": CitationMode.FAST,
    "OFF": CitationMode.OFF,
    "DISABLED": CitationMode.OFF,
}
_GROUNDINGS: Final = {None: Grounding.DEFAULT, "STRICT": Grounding.STRICT, "OPEN": Grounding.OPEN}


def chat_turn(body: ChatBody) -> ChatTurn:
    """Return the turn that the request asks for.

    Raises:
        InvalidInput: A field asks for something that is not offered, or says nothing.
    """
    _refuse_what_is_not_offered(body)
    messages = tuple(_message(place, turn) for place, turn in enumerate(body.messages))
    options = body.citation_options
    return ChatTurn(
        model=body.model,
        messages=messages,
        conversation_id=body.conversation_id or "",
        documents=inline_documents(
            [item if isinstance(item, str) else (item.id or "", item.data) for item in body.documents]
        )
        if body.documents
        else (),
        retrieval=RetrievalOptions(
            collection_ids=tuple(body.collections),
            filter_json="" if body.filters is None else json.dumps(body.filters),
            top_k=body.top_k or 0,
            alpha=body.alpha,
            ranker=body.ranker or "",
            score_threshold=body.score_threshold,
        ),
        citation_mode=_MODES[options.mode if options else None],
        grounding=_GROUNDINGS[body.grounding],
        sampling=_sampling(body),
        store=bool(body.store),
    )


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
    if body.tool_choice not in (None, "none", "auto"):
        raise InvalidInput(
            f"tool_choice {body.tool_choice!r} needs tools, which are not offered yet.", param="tool_choice"
        )
    if any(kind != "text" for kind in body.modalities):
        raise InvalidInput(f"modalities {body.modalities} are not offered; use ['text'].", param="modalities")
    if body.top_logprobs and not body.logprobs:
        raise InvalidInput("top_logprobs needs logprobs to be true.", param="top_logprobs")


def _message(place: int, turn: Turn) -> Message:
    param = f"messages[{place}]"
    if turn.role in {"tool", "function"} or turn.tool_calls:
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
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        min_p=body.min_p,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        repetition_penalty=body.repetition_penalty,
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        min_tokens=body.min_tokens or 0,
        stop=tuple(body.stop),
        seed=body.seed,
        n=body.n or 1,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        json_schema=schema,
        json_object=json_object,
        ignore_eos=bool(body.ignore_eos),
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
