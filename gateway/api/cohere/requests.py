"""The bodies of Cohere's API as we take them.

Explicit nulls mean "not given" everywhere, unknown fields are ignored (SDKs are newer or older than we are), and what
is known and not offered is refused by name further in.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.api.bodies import OrEmpty, SdkBody, TokenId, TokenLimit, Upper
from gateway.api.grounding import GroundedBody

__all__ = [
    "ChatBody",
    "ChatMessage",
    "DetokenizeBody",
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


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class ChatMessage(SdkBody):
    """One turn. Content is text or parts; what a part may be depends on the role."""

    role: Annotated[Literal["user", "assistant", "system", "tool"], BeforeValidator(_lower)]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class ResponseFormat(SdkBody):
    """What the text must be. Cohere has named the schema twice."""

    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ChatBody(GroundedBody):
    """`POST /v2/chat`, with our grounding parameters (through the SDKs' additional body parameters) beside Cohere's."""

    messages: list[ChatMessage] = Field(min_length=1)
    tools: Annotated[list[Any], OrEmpty] = Field(default=[])
    strict_tools: bool | None = None
    tool_choice: str | None = None
    response_format: ResponseFormat | None = None
    safety_mode: Annotated[Literal["CONTEXTUAL", "STRICT", "OFF", "NONE"] | None, Upper] = None
    max_tokens: TokenLimit | None = None
    stop_sequences: Annotated[list[str], OrEmpty] = Field(default=[], max_length=5)
    temperature: float | None = Field(None, ge=0, le=2)
    p: float | None = Field(None, gt=0, le=1)
    k: int | None = Field(None, ge=0, le=500)
    seed: int | None = Field(None, ge=0, lt=2**63)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    thinking: dict[str, Any] | None = None
    priority: int | None = Field(None, ge=0, le=999)
    stream: bool | None = None


class RerankV2Body(SdkBody):
    """`POST /v2/rerank`."""

    model: str | None = None
    query: str = Field(min_length=1)
    documents: list[str | dict[str, Any]] = Field(min_length=1, max_length=1000)
    top_n: int | None = Field(None, ge=1, lt=2**31)
    max_tokens_per_doc: int | None = Field(None, ge=1)


class RerankV1Body(RerankV2Body):
    """`POST /v1/rerank`: hands documents back, and reads named fields of structured ones."""

    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_chunks_per_doc: int | None = Field(None, ge=1)


class _EmbedBody(SdkBody):
    model: str | None = None
    texts: Annotated[list[str], OrEmpty] = Field(default=[], max_length=2048)
    images: Annotated[list[Any], OrEmpty] = Field(default=[])
    truncate: Annotated[Literal["NONE", "START", "END"] | None, Upper] = None


class EmbedV2Body(_EmbedBody):
    """`POST /v2/embed`."""

    input_type: InputType
    inputs: Annotated[list[dict[str, Any]], OrEmpty] = Field(default=[], max_length=2048)
    embedding_types: list[EmbeddingType] | None = Field(None, min_length=1)
    output_dimension: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)


class EmbedV1Body(_EmbedBody):
    """`POST /v1/embed`."""

    input_type: InputType | None = None
    embedding_types: Annotated[list[EmbeddingType], OrEmpty] = Field(default=[])


class TokenizeBody(SdkBody):
    """`POST /v1/tokenize`."""

    text: str = Field(min_length=1, max_length=65_536)
    model: str | None = None


class DetokenizeBody(SdkBody):
    """`POST /v1/detokenize`."""

    tokens: list[TokenId] = Field(max_length=65_536)
    model: str | None = None
