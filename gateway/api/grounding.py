"""Documents that come with a request, in Cohere's shapes: a string, or fields under `data` with an optional id."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.domain.asking import InlineDocument
from services.chassis.errors import InvalidInput

__all__ = ["inline_documents"]

# Fields that hold the text to be cited, the first that is there; what people call it in Cohere's own examples.
_TEXT_FIELDS: Final = ("text", "snippet", "content", "body")
# Fields that name a document rather than say something.
_NAMING_FIELDS: Final = frozenset({"title", "url", "id", "_excludes"})


def inline_documents(items: Sequence[str | tuple[str, Mapping[str, Any]]]) -> tuple[InlineDocument, ...]:
    """Return the documents; those without an id are numbered `doc:0`, `doc:1`, … by their place.

    Args:
        items: Each a text, or an id (may be empty) with fields.

    Raises:
        InvalidInput: A document holds nothing that could be cited.
    """
    return tuple(_document(place, item) for place, item in enumerate(items))


def _document(place: int, item: str | tuple[str, Mapping[str, Any]]) -> InlineDocument:
    identity, fields = ("", {"content": item}) if isinstance(item, str) else item
    text = _text(fields)
    if not text.strip():
        raise InvalidInput(
            f"documents[{place}] holds no text; give it a string or one of the fields {', '.join(_TEXT_FIELDS)}.",
            param=f"documents[{place}]",
        )
    return InlineDocument(
        id=identity or f"doc:{place}",
        title=str(fields.get("title") or ""),
        text=text,
        data_json=json.dumps(fields, ensure_ascii=False, default=str),
    )


def _text(fields: Mapping[str, Any]) -> str:
    """Return what may be cited: the text, with the other facts that the document states above it."""
    main = next((name for name in _TEXT_FIELDS if fields.get(name)), None)
    facts = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in fields.items()
        if name != main and name not in _NAMING_FIELDS and value not in (None, "")
    ]
    body = [] if main is None else [str(fields[main])]
    return "\n".join([*facts, *body]) or str(fields.get("title") or "")
