"""Bodies and query strings into models, with errors that name the field, the value and what is allowed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from services.chassis.errors import InvalidInput, NotFound

__all__ = [
    "Metadata",
    "OrEmpty",
    "Principal",
    "SdkBody",
    "TokenId",
    "TokenLimit",
    "Upper",
    "called",
    "parse",
    "validated",
]

Model = TypeVar("Model", bound=BaseModel)
_SHOWN_CHARACTERS: Final = 80
# Deeper than people write, and shallower than what walks through a body gives up at.
_MAX_NESTING: Final = 100

# An explicit null is a list that was not given.
OrEmpty: Final = BeforeValidator(lambda value: [] if value is None else value)
Upper: Final = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
# As large as the rooms count.
TokenId = Annotated[int, Field(ge=0, lt=2**32)]
# More than any context window holds: engines stop at theirs.
TokenLimit = Annotated[int, Field(ge=1, le=2**20)]
# A caller's own notes on an object, in OpenAI's bounds.
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]

# As the list is kept: `user:<subject>`, `group:<name>`, without control characters.
Principal = Annotated[str, Field(pattern=r"^(user|group):[^\s\p{Cc}]([^\p{Cc}]*[^\s\p{Cc}])?$", max_length=128)]


class SdkBody(BaseModel):
    """What other people's SDKs send: unknown fields are ignored, as SDKs are newer or older than we are."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def parse(model: type[Model], data: bytes) -> Model:
    """Return a JSON body as a model; an empty body is an empty object.

    Raises:
        InvalidInput: Not JSON, not an object, or a field is wrong.
    """
    if not data.strip():
        return validated(model, {})
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.")
    if data.count(b"[") + data.count(b"{") > _MAX_NESTING and _is_deep(value):
        raise InvalidInput(f"The body is nested too deeply; at most {_MAX_NESTING} levels are allowed.")
    return validated(model, value)


@contextmanager
def called(theirs: str, ours: str) -> Iterator[None]:
    """Tell of what a room finds wrong with the field `theirs` in the caller's words, where it came as `ours`.

    Raises:
        InvalidInput: A field is wrong.
        NotFound: What a field names is not there.
    """
    try:
        yield
    except (InvalidInput, NotFound) as error:
        param = error.param or ""
        # What lies within the field counts too: `grader.type` within `grader`.
        if not re.match(rf"{re.escape(theirs)}($|[.\[])", param):
            raise
        within = ours + param.removeprefix(theirs)
        raise type(error)(f"{within}:{error.message.removeprefix(f'{param}:')}", param=within) from error


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_NESTING):
        inner = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)


def validated(model: type[Model], value: dict[str, Any]) -> Model:
    """Return a plain object as a model.

    Raises:
        InvalidInput: A field is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _fault(error.errors(include_url=False), value) from error


def _fault(faults: list[ErrorDetails], value: dict[str, Any]) -> InvalidInput:
    # Of a union's alternatives the one that got furthest says most.
    fault = max(faults, key=lambda one: (len(_path(one, value)), one["type"] != "string_type"))
    param = _path(fault, value)
    name = _name(param)
    message = fault["msg"].removeprefix("Value error, ").rstrip(".")
    if fault["type"] == "missing":
        return InvalidInput(f"{name}: this field is required.", param=name)
    shown = repr(fault["input"])
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return InvalidInput(f"{name}: {message} (got {shown}).".removeprefix(": "), param=name or None)


def _path(fault: ErrorDetails, root: Any) -> list[str | int]:
    """Return where the fault is, in the caller's words: pydantic also names the alternatives of unions."""
    path: list[str | int] = []
    value: Any = root
    for place, part in enumerate(fault["loc"]):
        is_last = place == len(fault["loc"]) - 1
        if _holds(value, part):
            path.append(part)
            value = value[part]
        elif is_last and fault["type"] == "missing":
            path.append(part)
    return path


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _name(path: list[str | int]) -> str:
    """Return `messages[0].content` for ["messages", 0, "content"]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
