"""ShareGPT: conversations of {"from", "value"}, as they were exported from chat pages.

{"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}], "system"?, "tools"?}; with "chosen" and "rejected"
beside it a preference, with "kto_tag" a judged answer. Turns may also say role and content.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.finetuning.domain.importing.conversions import (
    Converted,
    as_label,
    pair,
    parsed_json,
    refused,
    rest_of,
    said,
)
from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.rows import ASSISTANT, RowKind

_TURNS: Final = ("conversations", "conversation")
_SPEAKERS: Final = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot"), ASSISTANT),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
_CALL: Final = "function_call"
_SPOKEN: Final = "human, gpt, system, function_call or observation"


def looks_like_sharegpt(record: Mapping[str, Any]) -> bool:
    """Whether a record holds a conversation under one of its names."""
    return any(isinstance(record.get(name), list) for name in _TURNS)


def from_sharegpt(record: Mapping[str, Any]) -> Converted:
    """Return the row that a record stands for.

    Raises:
        Unconvertible: It is no record of this format.
    """
    key = next((name for name in _TURNS if name in record), _TURNS[0])
    spoken = record.get(key)
    if not isinstance(spoken, list):
        raise refused("wrong_type", key, f"{shown(spoken)} is not allowed; use an array of turns")
    fields: dict[str, str] = {}
    system = record.get("system")
    messages = [said("system", system)] if system else []
    prefix = "input.messages" if "chosen" in record or "rejected" in record else "messages"
    for index, entry in enumerate(spoken):
        at = f"{key}[{index}]"
        turn, content = _turn(entry, at, messages)
        fields[f"{prefix}[{len(messages)}].content"] = f"{at}.{content}"
        fields[f"{prefix}[{len(messages)}].role"] = f"{at}.from"
        messages.append(turn)
    tools = _tools(record)
    used = {key, "system", "tools"}
    if prefix == "input.messages":
        value = pair(messages, _said(record, "chosen"), _said(record, "rejected"))
        value["input"] |= tools
        value |= rest_of(record, used | {"chosen", "rejected"})
        fields |= {
            "preferred_output[0].content": "chosen.value",
            "non_preferred_output[0].content": "rejected.value",
            "non_preferred_output": "rejected",
        }
        return Converted(RowKind.PREFERENCE, value, fields)
    value = {"messages": messages} | tools
    if "kto_tag" in record:
        value |= {"label": as_label(record["kto_tag"], "kto_tag")}
        return Converted(RowKind.KTO, value | rest_of(record, used | {"kto_tag"}), fields)
    return Converted(RowKind.CHAT, value | rest_of(record, used), fields)


def _turn(entry: Any, at: str, before: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return a turn and the name under which the record holds its text."""
    if not isinstance(entry, dict):
        raise refused("wrong_type", at, f"{shown(entry)} is not allowed; use an object with from and value")
    speaker = entry.get("from", entry.get("role"))
    name = "value" if "value" in entry or "content" not in entry else "content"
    content = entry.get(name)
    if speaker == _CALL:
        call = parsed_json(content, f"{at}.{name}") if isinstance(content, str) else content
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise refused(
                "wrong_type", f"{at}.{name}", f"{shown(content)} is not allowed; use an object with name and arguments"
            )
        function = {"name": call["name"], "arguments": call.get("arguments", {})}
        calls = [{"id": f"call_{len(before)}", "type": "function", "function": function}]
        return {"role": ASSISTANT, "content": "", "tool_calls": calls}, name
    if not isinstance(speaker, str) or speaker.casefold() not in _SPEAKERS:
        raise refused("not_allowed", f"{at}.from", f"{shown(speaker)} is not allowed; use {_SPOKEN}")
    role = _SPEAKERS[speaker.casefold()]
    turn = said(role, content)
    if role == "tool":
        turn["tool_call_id"] = f"call_{len(before) - 1}"
    return turn, name


def _said(record: Mapping[str, Any], key: str) -> Any:
    value = record.get(key)
    return value.get("value", value.get("content")) if isinstance(value, dict) else value


def _tools(record: Mapping[str, Any]) -> dict[str, Any]:
    tools = record.get("tools")
    if not tools:
        return {}
    found = parsed_json(tools, "tools") if isinstance(tools, str) else tools
    if not isinstance(found, list):
        raise refused("wrong_type", "tools", f"{shown(found)} is not allowed; use an array of tools")
    wrapped = [
        {"type": "function", "function": one} if isinstance(one, dict) and "name" in one else one for one in found
    ]
    return {"tools": wrapped} if wrapped else {}
