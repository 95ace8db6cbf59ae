"""What a record of another format stands for: the JSON of one of our rows, and the names of its fields over there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.row_shapes import Fault
from services.finetuning.domain.rows import ASSISTANT, RowKind


@dataclass(frozen=True, slots=True)
class Converted:
    """A record as JSON of a row.

    Attributes:
        kind: What the row teaches.
        value: The row in its shape on the wire.
        fields: Our field to the field of the record, as far as they differ.
    """

    kind: RowKind
    value: dict[str, Any]
    fields: Mapping[str, str] = field(default_factory=dict)


class Unconvertible(Exception):
    """A record is none of its format.

    Args:
        fault: What is wrong.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def refused(code: str, name: str, message: str) -> Unconvertible:
    """Return the error that says what is wrong with a field of a record."""
    return Unconvertible(Fault(code, name, message))


def first_of(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first name under which a record holds something; empty for none."""
    return next((name for name in names if record.get(name) not in (None, "")), "")


TRUE_WORDS: Final = frozenset({"true", "1", "yes", "y", "up", "good", "+1", "👍"})
FALSE_WORDS: Final = frozenset({"false", "0", "no", "n", "down", "bad", "-1", "👎"})


def as_label(value: Any, name: str) -> bool:
    """Return whether a label says good.

    Raises:
        Unconvertible: It says neither good nor bad.
    """
    word = str(value).strip().casefold() if isinstance(value, str | int) else ""
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise refused(
        "not_allowed", name, f"{shown(value)} is not allowed; use true or false, 1 or 0, yes or no, up or down"
    )


def rest_of(record: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """Return what a record holds beyond what was used and what is empty."""
    taken = used | {"messages", "tools", "text", "label", "input", "preferred_output", "non_preferred_output", "brain"}
    return {key: value for key, value in record.items() if key not in taken and value not in (None, "", [])}


def said(role: str, content: Any) -> dict[str, Any]:
    """Return a turn."""
    return {"role": role, "content": content}


def pair(messages: list[dict[str, Any]], chosen: Any, rejected: Any) -> dict[str, Any]:
    """Return the JSON of a preference row."""
    return {
        "input": {"messages": messages},
        "preferred_output": [said(ASSISTANT, chosen)],
        "non_preferred_output": [said(ASSISTANT, rejected)],
    }


def parsed_json(text: str, name: str) -> Any:
    """Return a value that a record holds as JSON in a string.

    Raises:
        Unconvertible: It is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused("not_json", name, f"{shown(text)} is not JSON") from error
