"""Tables: a header that names what the cells are, in one of several conventions.

| columns | rows |
|---|---|
| text | text |
| prompt, answer | chat |
| prompt, chosen, rejected | preference |
| prompt, answer, label | kto |
| prompt | prompts, the other columns for graders |

Each column has several names; system and context may stand beside any prompt.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.finetuning.domain.importing.conversions import Converted, as_label, pair, refused, rest_of, said
from services.finetuning.domain.rows import ASSISTANT, RowKind

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "content"),
    "prompt": ("prompt", "question", "instruction", "query", "user", "user_message"),
    "answer": ("answer", "completion", "response", "output", "assistant", "reply", "assistant_message"),
    "system": ("system", "system_prompt", "system_message"),
    "context": ("context", "input"),
    "chosen": ("chosen", "preferred", "preferred_output", "better"),
    "rejected": ("rejected", "non_preferred", "non_preferred_output", "worse"),
    "label": ("label", "kto_tag", "thumb", "rating"),
}
KNOWN_COLUMNS: Final = frozenset(name for names in _NAMES.values() for name in names)
"""Every name that a column may have, in normal form."""


def from_columns(record: Mapping[str, Any]) -> Converted:
    """Return the row that a row of a table stands for.

    Raises:
        Unconvertible: Its columns are of no convention.
    """
    found = {role: name for role, names in _NAMES.items() if (name := _column(record, role, names))}
    used = set(found.values())
    rest = rest_of(record, used)
    if "prompt" not in found:
        if "text" in found:
            return Converted(RowKind.TEXT, {"text": record[found["text"]]} | rest, {"text": found["text"]})
        raise refused(
            "missing",
            "prompt",
            "is missing; a table needs a column text, or prompt with answer, or chosen and rejected",
        )
    messages = [said("system", record[found["system"]])] if found.get("system") and record[found["system"]] else []
    at = len(messages)
    prompt = record[found["prompt"]]
    if found.get("context") and record[found["context"]].strip():
        prompt = f"{prompt}\n\n{record[found['context']]}"
    messages.append(said("user", prompt))
    if "chosen" in found or "rejected" in found:
        return _preference(record, found, messages, rest)
    fields = {f"messages[{at}].content": found["prompt"]}
    if "answer" not in found:
        return Converted(RowKind.PROMPTS, {"messages": messages} | rest, fields)
    messages.append(said(ASSISTANT, record[found["answer"]]))
    fields[f"messages[{at + 1}].content"] = found["answer"]
    if "label" not in found:
        return Converted(RowKind.CHAT, {"messages": messages} | rest, fields)
    label = as_label(record[found["label"]], found["label"])
    return Converted(RowKind.KTO, {"messages": messages, "label": label} | rest, fields)


def _preference(
    record: Mapping[str, Any], found: Mapping[str, str], messages: list[dict[str, Any]], rest: dict[str, Any]
) -> Converted:
    for role in ("chosen", "rejected"):
        if role not in found:
            raise refused("missing", role, "is missing; a preference has the columns prompt, chosen and rejected")
    fields = {
        f"input.messages[{len(messages) - 1}].content": found["prompt"],
        "preferred_output[0].content": found["chosen"],
        "non_preferred_output[0].content": found["rejected"],
        "non_preferred_output": found["rejected"],
    }
    value = pair(messages, record[found["chosen"]], record[found["rejected"]])
    return Converted(RowKind.PREFERENCE, value | rest, fields)


def _column(record: Mapping[str, Any], role: str, names: tuple[str, ...]) -> str:
    there = [name for name in names if name in record]
    if role == "context" and "input" in there and "prompt" not in record and "instruction" not in record:
        # "input" and "output" alone are a question and its answer.
        there.remove("input")
    if role == "prompt" and not there and "input" in record:
        there = ["input"]
    if len(there) > 1:
        raise refused(
            "not_allowed", there[1], f"stands beside {there[0]}, which means the same; keep one of the columns"
        )
    return there[0] if there else ""
