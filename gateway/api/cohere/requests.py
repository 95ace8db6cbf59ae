"""The bodies of Cohere's API as we take them.

Explicit nulls mean "not given" everywhere, unknown fields are ignored (SDKs are newer or older than we are), and what
is known and not offered is refused by name further in.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "ChatBody",
    "ChatMessage",
    "CitationOptions",
    "DetokenizeBody",
    "DocumentItem",
    "EmbedV1Body",
    "EmbedV2Body",
    "EmbeddingType",
    "RerankV1Body",
    "RerankV2Body",
    "ResponseFormat",
    "TokenizeBody",
]

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
InputType = Literal["search_document", "search_query", "classification", "clustering", "image"]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _or_empty(value: object) -> object:
    return [] if value is None else value


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ChatMessage(_Body):
    """One turn. Content is text or parts; what a part may be depends on the role."""

    role: Annotated[Literal["user", "assistant", "system", "tool"], BeforeValidator(_lower)]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class DocumentItem(_Body):
    """A document with its fields."""

    data: dict[str, Any]
    id: str | None = Field(None, max_length=512)


class CitationOptions(_Body):
    """When citations are sent."""

    mode: Annotated[
        Literal["ENABLED", "DISABLED", "FAST", "ACCURATE", "OFF"] | None,
        BeforeValidator(_upper),
    ] = None


class ResponseFormat(_Body):
    """What the text must be. Cohere has named the schema twice."""

    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ChatBody(_Body):
    """`POST /v2/chat`, with our grounding parameters beside Cohere's."""

    model: str = Field(min_length=1)
    messages: list[ChatMessage] = Field(min_length=1)
    documents: Annotated[list[str | DocumentItem], BeforeValidator(_or_empty)] = []
    citation_options: CitationOptions | None = None
    tools: Annotated[list[Any], BeforeValidator(_or_empty)] = []
    strict_tools: bool | None = None
    tool_choice: str | None = None
    response_format: ResponseFormat | None = None
    safety_mode: Annotated[Literal["CONTEXTUAL", "STRICT", "OFF", "NONE"] | None, BeforeValidator(_upper)] = None
    max_tokens: int | None = Field(None, ge=1)
    stop_sequences: Annotated[list[str], BeforeValidator(_or_empty)] = Field(default=[], max_length=5)
    temperature: float | None = Field(None, ge=0, le=2)
    p: float | None = Field(None, gt=0, le=1)
    k: int | None = Field(None, ge=0, le=500)
    seed: int | None = Field(None, ge=0)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    thinking: dict[str, Any] | None = None
    priority: int | None = Field(None, ge=0, le=999)
    stream: bool | None = None
    # Ours, through the SDKs' additional body parameters.
    collections: Annotated[list[str], BeforeValidator(_or_empty)] = Field(default=[], max_length=50)
    filters: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=1, le=50)
    alpha: float | None = Field(None, ge=0, le=1)
    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    grounding: Annotated[Literal["STRICT", "OPEN"] | None, BeforeValidator(_upper)] = None
    conversation_id: str | None = None
    store: bool | None = None


class RerankV2Body(_Body):
    """`POST /v2/rerank`."""

    model: str | None = None
    query: str = Field(min_length=1)
    documents: list[str | dict[str, Any]] = Field(min_length=1, max_length=1000)
    top_n: int | None = Field(None, ge=1)
    max_tokens_per_doc: int | None = Field(None, ge=1)


class RerankV1Body(RerankV2Body):
    """`POST /v1/rerank`: hands documents back, and reads named fields of structured ones."""

    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_chunks_per_doc: int | None = Field(None, ge=1)


class _EmbedBody(_Body):
    model: str | None = None
    texts: Annotated[list[str], BeforeValidator(_or_empty)] = Field(default=[], max_length=2048)
    images: Annotated[list[Any], BeforeValidator(_or_empty)] = []
    truncate: Annotated[Literal["NONE", "START", "END"] | None, BeforeValidator(_upper)] = None


class EmbedV2Body(_EmbedBody):
    """`POST /v2/embed`."""

    input_type: InputType
    inputs: Annotated[list[dict[str, Any]], BeforeValidator(_or_empty)] = Field(default=[], max_length=2048)
    embedding_types: list[EmbeddingType] | None = Field(None, min_length=1)
    output_dimension: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)


class EmbedV1Body(_EmbedBody):
    """`POST /v1/embed`."""

    input_type: InputType | None = None
    embedding_types: Annotated[list[EmbeddingType], BeforeValidator(_or_empty)] = []


class TokenizeBody(_Body):
    """`POST /v1/tokenize`."""

    text: str = Field(min_length=1, max_length=65_536)
    model: str | None = None


class DetokenizeBody(_Body):
    """`POST /v1/detokenize`."""

    tokens: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(max_length=65_536)
    model: str | None = None
