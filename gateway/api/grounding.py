"""Our own parameters of a chat request: what an answer is to be grounded in. They are the same in every dialect.

Documents that come with a request have Cohere's shapes: a string, or fields under `data` with an optional id.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.api.bodies import OrEmpty, SdkBody, Upper
from gateway.domain.asking import (
    ChatTurn,
    CitationMode,
    Grounding,
    InlineDocument,
    Message,
    RetrievalOptions,
    Sampling,
)
from services.chassis.errors import InvalidInput

__all__ = ["GroundedBody", "InlineItem", "grounded_turn"]

_MODES: Final = {
    None: CitationMode.DEFAULT,
    "ENABLED": CitationMode.DEFAULT,
    "ACCURATE": CitationMode.ACCURATE,
    "FAST": CitationMode.FAST,
    "OFF": CitationMode.OFF,
    "DISABLED": CitationMode.OFF,
}
_GROUNDINGS: Final = {None: Grounding.DEFAULT, "STRICT": Grounding.STRICT, "OPEN": Grounding.OPEN}
# Fields that hold the text to be cited, the first that is there; what people call it in Cohere's own examples.
_TEXT_FIELDS: Final = ("text", "snippet", "content", "body")
# Fields that name a document rather than say something.
_NAMING_FIELDS: Final = frozenset({"title", "url", "id", "_excludes"})


class CitationOptions(SdkBody):
    """When citations are sent."""

    mode: Annotated[Literal["ENABLED", "DISABLED", "FAST", "ACCURATE", "OFF"] | None, Upper] = None


class InlineItem(SdkBody):
    """A document that comes with the request, with its fields."""

    data: dict[str, Any]
    id: str | None = Field(None, max_length=512)


class GroundedBody(SdkBody):
    """What a dialect's chat request says beside its own words."""

    model: str = Field(min_length=1)
    collections: Annotated[list[str], OrEmpty] = Field(default=[], max_length=50)
    documents: Annotated[list[str | InlineItem], OrEmpty] = Field(default=[])
    citation_options: CitationOptions | None = None
    filters: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=1, le=50, description="Passages wanted.")
    alpha: float | None = Field(None, ge=0, le=1, description="Weight of the dense ranking.")
    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    grounding: Annotated[Literal["STRICT", "OPEN"] | None, Upper] = None
    conversation_id: str | None = None
    store: bool | None = None


def grounded_turn(body: GroundedBody, messages: Sequence[Message], sampling: Sampling) -> ChatTurn:
    """Return the turn that a request asks for; documents without an id are numbered `doc:0`, `doc:1`, … by their place.

    Raises:
        InvalidInput: A document holds nothing that could be cited.
    """
    options = body.citation_options
    return ChatTurn(
        model=body.model,
        messages=tuple(messages),
        conversation_id=body.conversation_id or "",
        documents=tuple(_document(place, item) for place, item in enumerate(body.documents)),
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
        sampling=sampling,
        store=bool(body.store),
    )


def _document(place: int, item: str | InlineItem) -> InlineDocument:
    identity, fields = ("", {"content": item}) if isinstance(item, str) else (item.id, item.data)
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
