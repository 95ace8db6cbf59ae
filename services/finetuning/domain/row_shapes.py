"""From the JSON of a line to a row, with every fault of it named."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.rows import (
    ASSISTANT,
    ROLES,
    ChatRow,
    DocumentSource,
    FeedbackSource,
    FileSource,
    KtoRow,
    Origin,
    PreferenceRow,
    PromptRow,
    Row,
    RowKind,
    RowSource,
    TextRow,
    Turn,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a row.

    Attributes:
        code: Stable name: missing, wrong_type, not_allowed, empty, role_order, forged_turn, same_answers,
            too_many, nul.
        field: Where in the row.
        message: The value and what is allowed.
    """

    code: str
    field: str
    message: str


MOST_TURNS: Final = 1_000
"""Most turns of a conversation."""
MOST_TOOLS: Final = 128
"""Most tools of a row."""
MOST_SOURCES: Final = 1_000
"""Most sources of a row."""

# The marks by which chat templates tell turns apart; inside a text they would begin or end one.
_FORGERY: Final = re.compile(r"<\|[^|<>\s]{1,40}\|>")
_SPELLINGS: Final = {"developer": "system"}
_ROLES: Final = f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"


class _Faults:
    """Collects what is wrong with one row."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, code: str, field: str, message: str) -> None:
        self.found.append(Fault(code, field, message))

    def text(self, owner: Mapping[str, Any], key: str, path: str, *, allow_empty: bool = False) -> str:
        """Return a text of an object; an empty one after a fault."""
        field = f"{path}.{key}" if path else key
        if key not in owner:
            self.add("missing", field, "is missing; it must be a string")
            return ""
        value = owner[key]
        if not isinstance(value, str):
            self.add("wrong_type", field, f"{shown(value)} is not allowed; use a string")
            return ""
        if not value.strip() and not allow_empty:
            self.add("empty", field, f"{shown(value)} is not allowed; write something")
        if "\x00" in value:
            self.add("nul", field, f"{shown(value)} holds the character NUL; leave it out")
        forged = _FORGERY.search(value)
        if forged:
            self.add(
                "forged_turn",
                field,
                f"{shown(forged.group())} marks a turn in chat templates and is not allowed inside a text; leave it out",
            )
        return value

    def objects(self, owner: Mapping[str, Any], key: str, path: str, *, most: int) -> list[tuple[str, dict[str, Any]]]:
        """Return the objects of an array with their paths; what is none of them is a fault."""
        field = f"{path}.{key}" if path else key
        value = owner[key]
        if not isinstance(value, list):
            self.add("wrong_type", field, f"{shown(value)} is not allowed; use an array of objects")
            return []
        if len(value) > most:
            self.add("too_many", field, f"holds {len(value)} entries; use at most {most}")
            return []
        found = []
        for index, entry in enumerate(value):
            if isinstance(entry, dict):
                found.append((f"{field}[{index}]", entry))
            else:
                self.add("wrong_type", f"{field}[{index}]", f"{shown(entry)} is not allowed; use an object")
        return found


def parsed(value: Any, kind: RowKind) -> tuple[Row | None, tuple[Fault, ...]]:
    """Return the row that a JSON value stands for, or everything that is wrong with it."""
    if not isinstance(value, dict):
        return None, (Fault("wrong_type", "", f"{shown(value)} is not allowed; write one JSON object on each line"),)
    faults = _Faults()
    row = _PARSERS[kind](value, faults)
    return (None, tuple(faults.found)) if faults.found else (row, ())


def kind_like(value: Any) -> RowKind | None:
    """Return the kind that a JSON value looks like by its keys; None when it looks like none."""
    if not isinstance(value, dict):
        return None
    if "preferred_output" in value or "non_preferred_output" in value:
        return RowKind.PREFERENCE
    messages = value.get("messages")
    if isinstance(messages, list):
        if "label" in value:
            return RowKind.KTO
        last = messages[-1] if messages else None
        answered = not isinstance(last, dict) or last.get("role") == ASSISTANT
        return RowKind.CHAT if answered else RowKind.PROMPTS
    return RowKind.TEXT if "text" in value else None


def _parse_text(value: dict[str, Any], faults: _Faults) -> Row:
    return TextRow(faults.text(value, "text", ""), _origin(value, faults), _rest(value, "text"))


def _parse_chat(value: dict[str, Any], faults: _Faults) -> Row:
    messages = _conversation(value, "", faults, ends_in=(ASSISTANT,))
    return ChatRow(messages, _tools(value, "", faults), _origin(value, faults), _rest(value, "messages", "tools"))


def _parse_kto(value: dict[str, Any], faults: _Faults) -> Row:
    messages = _conversation(value, "", faults, ends_in=(ASSISTANT,))
    label = value.get("label")
    if "label" not in value:
        faults.add("missing", "label", "is missing; it must be true for a good answer or false for a bad one")
    elif not isinstance(label, bool):
        faults.add(
            "wrong_type", "label", f"{shown(label)} is not allowed; use true for a good answer or false for a bad one"
        )
    rest = _rest(value, "messages", "tools", "label")
    return KtoRow(messages, label is True, _tools(value, "", faults), _origin(value, faults), rest)


def _parse_prompts(value: dict[str, Any], faults: _Faults) -> Row:
    messages = _conversation(value, "", faults, ends_in=("user", "tool"))
    return PromptRow(messages, _tools(value, "", faults), _origin(value, faults), _rest(value, "messages", "tools"))


def _parse_preference(value: dict[str, Any], faults: _Faults) -> Row:
    asked = value.get("input")
    messages: tuple[Turn, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    more: Mapping[str, Any] = {}
    if "input" not in value:
        faults.add("missing", "input", 'is missing; it must be an object with "messages"')
    elif not isinstance(asked, dict):
        faults.add("wrong_type", "input", f'{shown(asked)} is not allowed; use an object with "messages"')
    else:
        messages = _conversation(asked, "input", faults, ends_in=("user", "tool"))
        tools = _tools(asked, "input", faults)
        more = {key: one for key, one in asked.items() if key not in {"messages", "tools"}}
    preferred = _output(value, "preferred_output", faults)
    rejected = _output(value, "non_preferred_output", faults)
    if preferred and [turn.content for turn in preferred] == [turn.content for turn in rejected]:
        faults.add("same_answers", "non_preferred_output", "says the same as preferred_output; a pair must differ")
    rest = _rest(value, "input", "preferred_output", "non_preferred_output")
    return PreferenceRow(messages, preferred, rejected, tools, _origin(value, faults), more, rest)


_PARSERS: Final[Mapping[RowKind, Callable[[dict[str, Any], _Faults], Row]]] = {
    RowKind.TEXT: _parse_text,
    RowKind.CHAT: _parse_chat,
    RowKind.KTO: _parse_kto,
    RowKind.PROMPTS: _parse_prompts,
    RowKind.PREFERENCE: _parse_preference,
}


def _rest(value: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key not in known and key != "brain"}


def _conversation(owner: Mapping[str, Any], path: str, faults: _Faults, *, ends_in: Sequence[str]) -> tuple[Turn, ...]:
    field = f"{path}.messages" if path else "messages"
    if "messages" not in owner:
        faults.add("missing", field, "is missing; it must be an array of turns")
        return ()
    before = len(faults.found)
    turns = tuple(_turn(entry, at, faults) for at, entry in faults.objects(owner, "messages", path, most=MOST_TURNS))
    if len(faults.found) == before:
        if turns:
            _check_order(turns, field, faults, ends_in=ends_in)
        else:
            faults.add("empty", field, "an empty array is not allowed; write at least one turn")
    return turns


def _output(owner: Mapping[str, Any], key: str, faults: _Faults) -> tuple[Turn, ...]:
    if key not in owner:
        faults.add("missing", key, "is missing; it must be an array with one assistant turn")
        return ()
    before = len(faults.found)
    turns = tuple(_turn(entry, at, faults) for at, entry in faults.objects(owner, key, "", most=MOST_TURNS))
    if len(faults.found) == before and (len(turns) != 1 or turns[0].role != ASSISTANT):
        roles = ", ".join(turn.role for turn in turns) or "no turns"
        faults.add("not_allowed", key, f"{roles} is not allowed; use exactly one assistant turn")
    return turns


def _turn(entry: dict[str, Any], at: str, faults: _Faults) -> Turn:
    role = entry.get("role")
    if "role" not in entry:
        faults.add("missing", f"{at}.role", f"is missing; use {_ROLES}")
    elif not isinstance(role, str) or _SPELLINGS.get(role, role) not in ROLES:
        faults.add("not_allowed", f"{at}.role", f"{shown(role)} is not allowed; use {_ROLES}")
        role = None
    role = _SPELLINGS.get(role, role) if isinstance(role, str) else "user"
    calls = _tool_calls(entry, at, role, faults)
    if calls and entry.get("content") is None:
        content = ""
    elif isinstance(entry.get("content"), list):
        content = _parts(entry, at, faults)
    else:
        content = faults.text(entry, "content", at, allow_empty=bool(calls))
    if role == "tool" and not isinstance(entry.get("tool_call_id"), str):
        faults.add("missing", f"{at}.tool_call_id", "is missing; it must name the call that the tool answers")
    extra = {key: one for key, one in entry.items() if key not in {"role", "content", "weight"}}
    return Turn(role, content, _weight(entry, at, role, faults), extra)


def _weight(entry: dict[str, Any], at: str, role: str, faults: _Faults) -> int | None:
    if "weight" not in entry or entry["weight"] is None:
        return None
    weight = entry["weight"]
    if isinstance(weight, bool) or weight not in (0, 1):
        faults.add("not_allowed", f"{at}.weight", f"{shown(weight)} is not allowed; use 0 or 1")
        return None
    if role != ASSISTANT:
        faults.add("not_allowed", f"{at}.weight", f"a turn of {role} has no weight; only assistant turns are learnt")
        return None
    return int(weight)


def _parts(entry: dict[str, Any], at: str, faults: _Faults) -> str:
    """Return a content that is written in parts as one text."""
    texts = []
    for path, part in faults.objects(entry, "content", at, most=MOST_TURNS):
        if part.get("type") != "text":
            faults.add("not_allowed", f"{path}.type", f'{shown(part.get("type"))} is not allowed; use "text"')
        else:
            texts.append(faults.text(part, "text", path))
    if not texts and not entry["content"]:
        faults.add("empty", f"{at}.content", "an empty array is not allowed; write something")
    return "".join(texts)


def _tool_calls(entry: dict[str, Any], at: str, role: str, faults: _Faults) -> Sequence[Any]:
    calls = entry.get("tool_calls")
    if calls is None:
        return ()
    if role != ASSISTANT:
        faults.add("not_allowed", f"{at}.tool_calls", f"a turn of {role} calls no tools; only assistant turns do")
        return ()
    found = faults.objects(entry, "tool_calls", at, most=MOST_TOOLS)
    for path, call in found:
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            faults.add("missing", f"{path}.function.name", "is missing; it must name a tool")
    return found


def _check_order(turns: Sequence[Turn], field: str, faults: _Faults, *, ends_in: Sequence[str]) -> None:
    """See that user and assistant take turns, tools answer calls, and the last turn is who it must be."""
    previous = None
    for index, turn in enumerate(turns):
        wrong = _misplaced(turn, previous, first=index == 0)
        if wrong:
            faults.add("role_order", f"{field}[{index}].role", wrong)
            return
        previous = turn
    if turns[-1].role not in ends_in:
        wanted = " or ".join(ends_in)
        faults.add(
            "role_order",
            f"{field}[{len(turns) - 1}].role",
            f"{shown(turns[-1].role)} is not allowed in last place; the last turn must be of {wanted}",
        )


def _misplaced(turn: Turn, previous: Turn | None, *, first: bool) -> str:
    if turn.role == "system":
        return "" if first else '"system" is not allowed here; a system turn stands first and once'
    before = None if previous is None or previous.role == "system" else previous
    if before is None:
        return "" if turn.role == "user" else f"{shown(turn.role)} is not allowed here; the first turn is of user"
    allowed = {
        "user": (ASSISTANT,),
        ASSISTANT: ("tool",) if before.tool_calls else ("user",),
        "tool": ("tool", ASSISTANT),
    }[before.role]
    if turn.role in allowed:
        return ""
    return f"{shown(turn.role)} is not allowed after {shown(before.role)}; use {' or '.join(allowed)}"


def _tools(owner: Mapping[str, Any], path: str, faults: _Faults) -> tuple[Mapping[str, Any], ...]:
    if owner.get("tools") is None:
        return ()
    found = faults.objects(owner, "tools", path, most=MOST_TOOLS)
    for at, tool in found:
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            faults.add("missing", f"{at}.function.name", "is missing; it must name the tool")
    return tuple(tool for _, tool in found)


def _origin(value: Mapping[str, Any], faults: _Faults) -> Origin:
    if "brain" not in value:
        return Origin()
    brain = value["brain"]
    if not isinstance(brain, dict):
        faults.add("wrong_type", "brain", f"{shown(brain)} is not allowed; use an object")
        return Origin()
    named = {
        key: faults.text(brain, key, "brain", allow_empty=True) if key in brain else ""
        for key in ("cluster", "split", "rater")
    }
    sources: tuple[RowSource, ...] = ()
    if "sources" in brain:
        entries = faults.objects(brain, "sources", "brain", most=MOST_SOURCES)
        sources = tuple(one for one in (_source(entry, at, faults) for at, entry in entries) if one is not None)
    extra = {key: one for key, one in brain.items() if key not in {"sources", "cluster", "split", "rater"}}
    return Origin(sources, named["cluster"], named["split"], named["rater"], extra)


def _source(entry: dict[str, Any], at: str, faults: _Faults) -> RowSource | None:
    match entry:
        case {"document": str(document), "version": int(version), **rest} if document and version > 0 and not rest:
            return DocumentSource(document, int(version))
        case {"feedback": str(feedback), **rest} if feedback and not rest:
            return FeedbackSource(feedback)
        case {"file": str(file), "line": int(line), **rest} if file and line > 0 and not rest:
            return FileSource(file, int(line))
    faults.add(
        "not_allowed",
        at,
        "is not allowed; use {document, version}, {feedback} or {file, line}, version and line from 1",
    )
    return None
