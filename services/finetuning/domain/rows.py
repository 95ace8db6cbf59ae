"""Training rows: what a model learns from, one line of JSON each.

Five kinds, in the shapes that the OpenAI fine-tuning API reads where it has one:

text         {"text"}
chat         {"messages": [{"role", "content", "weight"?}, …, assistant], "tools"?}
preference   {"input": {"messages": […, user]}, "preferred_output": [assistant], "non_preferred_output": [assistant]}
kto          {"messages": […, assistant], "label": true | false}
prompts      {"messages": […, user], …fields that graders refer to}

Every row may say where it is from: {"brain": {"sources": […], "cluster", "split", "rater"}}. What a row holds beyond this
is kept as it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ASSISTANT: Final = "assistant"
ROLES: Final = ("system", "user", ASSISTANT, "tool")
"""Roles of turns, in the order in which messages name them."""


class RowKind(StrEnum):
    """What a row teaches."""

    TEXT = "text"
    CHAT = "chat"
    PREFERENCE = "preference"
    KTO = "kto"
    PROMPTS = "prompts"


KIND_OF_STAGE: Final[Mapping[str, RowKind]] = {
    "continued_pretraining": RowKind.TEXT,
    "supervised": RowKind.CHAT,
    "raft": RowKind.CHAT,
    "dpo": RowKind.PREFERENCE,
    "kto": RowKind.KTO,
    "reward_model": RowKind.PREFERENCE,
    "rlhf": RowKind.PROMPTS,
    "rlaif": RowKind.PROMPTS,
}
"""The rows that each stage learns from, by the stage's name on the wire."""


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """A row is made from this version of a document."""

    document: str
    version: int


@dataclass(frozen=True, slots=True)
class FeedbackSource:
    """A row is made from this judgement."""

    feedback: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """A row is made from this line of a file."""

    file: str
    line: int


RowSource = DocumentSource | FeedbackSource | FileSource
"""What a row is made from."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row is from.

    Attributes:
        sources: Documents, judgements and lines that it is made from.
        cluster: Rows of one cluster say nearly the same and are never parted by a split.
        split: The part of a dataset that it was put into.
        rater: Who judged, as a principal.
        extra: What else was said about it.
    """

    sources: tuple[RowSource, ...] = ()
    cluster: str = ""
    split: str = ""
    rater: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: One of `ROLES`.
        content: Text; empty only beside tool calls.
        weight: 0 leaves an assistant's turn out of the loss, 1 keeps it; None is 1.
        extra: Tool calls, the call that a tool answers, and whatever else was given.
    """

    role: str
    content: str
    weight: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tool_calls(self) -> Sequence[Mapping[str, Any]]:
        """What the assistant asks tools for."""
        calls: Sequence[Mapping[str, Any]] = self.extra.get("tool_calls") or ()
        return calls

    @property
    def is_learnt(self) -> bool:
        """Whether the model is to learn to say it."""
        return self.role == ASSISTANT and self.weight != 0


@dataclass(frozen=True, slots=True)
class TextRow:
    """Text whose next tokens are learnt."""

    text: str
    origin: Origin = field(default_factory=Origin)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A conversation whose assistant turns are learnt."""

    messages: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = field(default_factory=Origin)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A conversation with a preferred and a rejected answer."""

    messages: tuple[Turn, ...]
    preferred: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = field(default_factory=Origin)
    input_extra: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KtoRow:
    """A conversation whose last answer was found good or bad."""

    messages: tuple[Turn, ...]
    label: bool
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = field(default_factory=Origin)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A conversation that waits for an answer; `extra` holds what graders compare answers with."""

    messages: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = field(default_factory=Origin)
    extra: Mapping[str, Any] = field(default_factory=dict)


Row = TextRow | ChatRow | PreferenceRow | KtoRow | PromptRow
"""One training row."""

_KINDS: Final = {
    TextRow: RowKind.TEXT,
    ChatRow: RowKind.CHAT,
    PreferenceRow: RowKind.PREFERENCE,
    KtoRow: RowKind.KTO,
    PromptRow: RowKind.PROMPTS,
}


def kind_of(row: Row) -> RowKind:
    """Return what a row teaches."""
    return _KINDS[type(row)]


def prompt_of(row: Row) -> tuple[Turn, ...]:
    """Return the turns before the last answer; none for text."""
    match row:
        case TextRow():
            return ()
        case ChatRow() | KtoRow():
            return row.messages[:-1]
        case PreferenceRow() | PromptRow():
            return row.messages


def answers_of(row: Row) -> tuple[str, ...]:
    """Return the answers that a row holds to its prompt, the preferred one first; none for text and prompts."""
    match row:
        case TextRow() | PromptRow():
            return ()
        case ChatRow() | KtoRow():
            return (row.messages[-1].content,)
        case PreferenceRow():
            return (row.preferred[-1].content, row.rejected[-1].content)


def texts_of(row: Row) -> tuple[str, ...]:
    """Return every text of a row, turn by turn."""
    match row:
        case TextRow():
            return (row.text,)
        case PreferenceRow():
            return tuple(turn.content for turn in (*row.messages, *row.preferred, *row.rejected))
        case ChatRow() | KtoRow() | PromptRow():
            return tuple(turn.content for turn in row.messages)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row in its shape on the wire."""
    found: dict[str, Any]
    match row:
        case TextRow():
            found = {"text": row.text}
        case ChatRow() | PromptRow():
            found = {"messages": _turns(row.messages)} | _tools(row.tools)
        case KtoRow():
            found = {"messages": _turns(row.messages), "label": row.label} | _tools(row.tools)
        case PreferenceRow():
            found = {
                "input": {"messages": _turns(row.messages)} | _tools(row.tools) | dict(row.input_extra),
                "preferred_output": _turns(row.preferred),
                "non_preferred_output": _turns(row.rejected),
            }
    origin = _origin(row.origin)
    return found | dict(row.extra) | ({"brain": origin} if origin else {})


def as_line(row: Row) -> bytes:
    """Return a row as a line of a JSONL file, the line break included."""
    return json.dumps(as_json(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _turns(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [
        {"role": turn.role, "content": turn.content}
        | ({} if turn.weight is None else {"weight": turn.weight})
        | dict(turn.extra)
        for turn in turns
    ]


def _tools(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"tools": [dict(tool) for tool in tools]} if tools else {}


def _origin(origin: Origin) -> dict[str, Any]:
    named = {"cluster": origin.cluster, "split": origin.split, "rater": origin.rater}
    sources = [_source(one) for one in origin.sources]
    return (
        ({"sources": sources} if sources else {})
        | {name: value for name, value in named.items() if value}
        | dict(origin.extra)
    )


def _source(source: RowSource) -> dict[str, Any]:
    match source:
        case DocumentSource():
            return {"document": source.document, "version": source.version}
        case FeedbackSource():
            return {"feedback": source.feedback}
        case FileSource():
            return {"file": source.file, "line": source.line}
