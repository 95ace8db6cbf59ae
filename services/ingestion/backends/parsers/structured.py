"""JSON and JSON lines: documents with a title and a body, or any other data as `name: value` lines."""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from services.ingestion.backends.parsers.markdown import write_markdown
from services.ingestion.backends.parsers.plain import decoded
from services.ingestion.backends.parsers.records import write_rows
from services.ingestion.backends.parsers.source import Source, invalid
from services.ingestion.domain.draft import one_line

__all__ = ["write", "write_lines"]

_TITLES: Final = ("title", "name", "subject", "heading")
_BODIES: Final = ("content", "text", "body", "markdown", "description")
# Beside the body, only what a person would read: not its identifiers.
_SILENT: Final = frozenset({"id", "_id", "uuid", "url", "embedding"})


def write(source: Source) -> None:
    """Write a JSON file."""
    try:
        value = json.loads(decoded(source).lstrip("\ufeff"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise invalid(f"The file is not valid JSON: {_where(error)}.") from error
    _value(source, value)


def write_lines(source: Source) -> None:
    """Write a file of one JSON value a line; lines that are none are named in a warning."""
    bad = 0
    first_bad = 0
    for number, line in enumerate(io.StringIO(decoded(source), newline=None), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            bad += 1
            first_bad = first_bad or number
            continue
        source.draft.paragraph("\n".join(_lines(value)))
    if bad:
        source.draft.warn(f"{bad} lines are not valid JSON and were left out, the first of them line {first_bad}.")


def _value(source: Source, value: Any) -> None:
    if isinstance(value, dict):
        title_key, body_key = _first_text(value, _TITLES), _first_text(value, _BODIES)
        source.title(value[title_key] if title_key else "")
        if body_key:
            write_markdown(source, value[body_key])
            taken = {title_key, body_key, *_SILENT}
            source.draft.paragraph("\n".join(_lines({k: v for k, v in value.items() if k.lower() not in taken})))
            return
    if isinstance(value, list) and len(value) > 1 and all(_flat(row) for row in value):
        names = list(dict.fromkeys(key for row in value for key in row))
        write_rows(source, [names, *([_scalar(row.get(name)) for name in names] for row in value)])
        return
    source.draft.paragraph("\n".join(_lines(value)))


def _first_text(value: dict[str, Any], keys: Iterable[str]) -> str | None:
    return next((key for key in keys if isinstance(value.get(key), str) and value[key].strip()), None)


def _flat(row: Any) -> bool:
    return isinstance(row, dict) and all(not isinstance(item, dict | list) for item in row.values())


def _lines(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            yield from _pair(path, ", ".join(_scalar(item) for item in value))
            return
        for number, item in enumerate(value, 1):
            yield from _lines(item, f"{path} {number}".strip())
    else:
        yield from _pair(path, _scalar(value))


def _pair(path: str, text: str) -> Iterator[str]:
    if text.strip():
        yield f"{one_line(path)}: {text}" if path else text


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _where(error: json.JSONDecodeError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    return "it is nested too deeply"
