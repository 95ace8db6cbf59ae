"""Alpaca and its kin: flat records of an instruction, perhaps an input, and an output.

{"instruction", "input"?, "output", "system"?, "history"?: [[asked, answered], …]}, also under the names prompt, question,
response, completion, answer; with "chosen" and "rejected" in the place of the output it is a preference, with "kto_tag"
a judged answer.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.finetuning.domain.importing.conversions import Converted, as_label, first_of, pair, refused, rest_of, said
from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.rows import ASSISTANT, RowKind

_ASKED: Final = ("instruction", "prompt", "question", "query")
_GIVEN: Final = ("input", "context")
_ANSWERED: Final = ("output", "response", "completion", "answer")
_LABEL: Final = ("kto_tag", "label")


def looks_like_alpaca(record: Mapping[str, Any]) -> bool:
    """Whether a record holds an instruction under one of its names, as a text."""
    return any(isinstance(record.get(name), str) for name in _ASKED)


def from_alpaca(record: Mapping[str, Any]) -> Converted:
    """Return the row that a record stands for.

    Raises:
        Unconvertible: It is no record of this format.
    """
    asked, given, answered = (first_of(record, names) for names in (_ASKED, _GIVEN, _ANSWERED))
    if not asked:
        raise refused("missing", "instruction", "is missing; it must say what is asked for")
    instruction = record[asked]
    messages = _before(record)
    at = len(messages)
    if given and isinstance(record[given], str) and isinstance(instruction, str):
        instruction = f"{instruction}\n\n{record[given]}"
    elif given and not isinstance(record[given], str):
        raise refused("wrong_type", given, f"{shown(record[given])} is not allowed; use a string")
    messages.append(said("user", instruction))
    used = {asked, given, "system", "history"}
    if "chosen" in record or "rejected" in record:
        value = pair(messages, _answer(record.get("chosen")), _answer(record.get("rejected")))
        value |= rest_of(record, used | {"chosen", "rejected"})
        fields = {
            f"input.messages[{at}].content": asked,
            "preferred_output[0].content": "chosen",
            "non_preferred_output[0].content": "rejected",
            "non_preferred_output": "rejected",
        }
        return Converted(RowKind.PREFERENCE, value, fields)
    fields = {f"messages[{at}].content": asked, f"messages[{at + 1}].content": answered or "output"}
    messages.append(said(ASSISTANT, record.get(answered or "output")))
    label = first_of(record, _LABEL) or next((name for name in _LABEL if record.get(name) is False), "")
    value = {"messages": messages}
    if label:
        value |= {"label": as_label(record[label], label)}
    value |= rest_of(record, used | {answered, label})
    return Converted(RowKind.KTO if label else RowKind.CHAT, value, fields)


def _answer(value: Any) -> Any:
    """Return an answer that may stand as a turn of its own."""
    if isinstance(value, dict):
        return value.get("content", value.get("value"))
    return value


def _before(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the turns before the instruction."""
    system, history = record.get("system"), record.get("history")
    turns = [said("system", system)] if system else []
    if not history:
        return turns
    if not isinstance(history, list):
        raise refused("wrong_type", "history", f"{shown(history)} is not allowed; use an array of [asked, answered]")
    for index, entry in enumerate(history):
        if not isinstance(entry, list) or len(entry) != 2:
            raise refused("wrong_type", f"history[{index}]", f"{shown(entry)} is not allowed; use [asked, answered]")
        turns += [said("user", entry[0]), said(ASSISTANT, entry[1])]
    return turns
