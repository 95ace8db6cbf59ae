"""The bodies and query strings of OpenAI's API as we take them.

Explicit nulls mean "not given", unknown fields are ignored (SDKs are newer or older than we are), and what is known and
not offered is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.api.bodies import Metadata, OrEmpty, SdkBody, TokenId, TokenLimit
from gateway.api.grounding import GroundedBody, InlineItem
from gateway.domain.asking import Sampling

__all__ = [
    "AttributesBody",
    "BatchBody",
    "ChatBody",
    "CompletionBody",
    "EmbeddingBody",
    "FileChunking",
    "FilesQuery",
    "JsonSchema",
    "ListQuery",
    "ModelsQuery",
    "ResponseFormat",
    "SearchBody",
    "StoreBody",
    "StoreChange",
    "StoreFileBody",
    "StoreFilesQuery",
    "Turn",
]


def _listed(value: object) -> object:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


Attribute = Annotated[str, Field(max_length=512)] | bool | float
Attributes = Annotated[dict[Annotated[str, Field(max_length=64)], Attribute], Field(max_length=16)]


class Turn(SdkBody):
    """One message of a conversation. Content is text or parts of text."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class StreamOptions(SdkBody):
    """What a stream carries beside text."""

    include_usage: bool | None = None


class JsonSchema(SdkBody):
    """A named JSON Schema."""

    name: str = ""
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(SdkBody):
    """What the text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class _Drawing(SdkBody):
    """How tokens are drawn: what chat and plain completions share."""

    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=8)
    max_tokens: TokenLimit | None = None
    stop: Annotated[list[str], BeforeValidator(_listed)] = Field(default=[], max_length=16)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: dict[str, Any] | None = None
    # Not OpenAI's: engines of this kind take them.
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    min_tokens: int | None = Field(None, ge=0, le=2**20)
    ignore_eos: bool | None = None

    def sampling(self) -> Sampling:
        """Return what both say alike."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            min_p=self.min_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            max_tokens=self.max_tokens or 0,
            min_tokens=self.min_tokens or 0,
            stop=tuple(self.stop),
            seed=self.seed,
            n=self.n or 1,
            ignore_eos=bool(self.ignore_eos),
        )


class ChatBody(GroundedBody, _Drawing):
    """`POST /v1/chat/completions`, with our grounding parameters (through the SDK's extra_body) beside OpenAI's."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], OrEmpty] = Field(default=[])
    tool_choice: Any = None
    functions: Annotated[list[Any], OrEmpty] = Field(default=[])
    function_call: Any = None
    modalities: Annotated[list[str], OrEmpty] = Field(default=[])
    audio: Any = None
    web_search_options: Any = None
    documents: Annotated[list[str | InlineItem], OrEmpty] = Field(default=[], max_length=1000)


class CompletionBody(_Drawing):
    """`POST /v1/completions`."""

    model: str = Field(min_length=1, max_length=256)
    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class EmbeddingBody(SdkBody):
    """`POST /v1/embeddings`."""

    model: str = ""
    input: str | list[TokenId] | list[str] | list[list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)


class ListQuery(SdkBody):
    """Which stretch of a list."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""
    before: str = ""
    order: Literal["asc", "desc"] = "desc"


class FilesQuery(SdkBody):
    """Which files."""

    purpose: str = ""
    limit: int = Field(10_000, ge=1, le=10_000)
    after: str = ""
    order: Literal["asc", "desc"] = "desc"


class StoreFilesQuery(ListQuery):
    """Which files of a vector store."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None


class ModelsQuery(SdkBody):
    """Which models (Cohere's parameters; OpenAI has none)."""

    endpoint: str = ""
    default_only: bool = False


class StaticChunking(SdkBody):
    """Sizes in the embedder's tokens."""

    max_chunk_size_tokens: int = Field(ge=100, le=4096)
    chunk_overlap_tokens: int = Field(ge=0)

    @model_validator(mode="after")
    def _overlap_is_at_most_half(self) -> "StaticChunking":
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")
        return self


class FileChunking(SdkBody):
    """How a file is cut."""

    type: Literal["auto", "static", "other"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _static_has_sizes(self) -> "FileChunking":
        if self.type == "static" and self.static is None:
            raise ValueError("a static chunking strategy needs its sizes under 'static'")
        return self


class ExpiresAfter(SdkBody):
    """When an unused vector store goes."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class StoreBody(SdkBody):
    """`POST /v1/vector_stores`."""

    name: str | None = Field(None, max_length=256)
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: FileChunking | None = None
    file_ids: Annotated[list[str], OrEmpty] = Field(default=[], max_length=2000)
    # Ours, through the SDK's extra_body: who may read documents that name no access list of their own.
    default_access: Annotated[list[str], OrEmpty] = Field(default=[], max_length=100)


class StoreChange(SdkBody):
    """`POST /v1/vector_stores/{id}`; what is not given stays."""

    name: str | None = Field(None, max_length=256)
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    default_access: list[str] | None = Field(None, max_length=100)


class StoreFileBody(SdkBody):
    """`POST /v1/vector_stores/{id}/files`."""

    file_id: str = Field(min_length=1)
    attributes: Attributes | None = None
    chunking_strategy: FileChunking | None = None


class AttributesBody(SdkBody):
    """`POST /v1/vector_stores/{id}/files/{file}`."""

    attributes: Attributes


class BatchBody(SdkBody):
    """`POST /v1/vector_stores/{id}/file_batches`: ids with settings for all, or files with their own."""

    file_ids: Annotated[list[str], OrEmpty] = Field(default=[], max_length=2000)
    files: Annotated[list[StoreFileBody], OrEmpty] = Field(default=[], max_length=2000)
    attributes: Attributes | None = None
    chunking_strategy: FileChunking | None = None


class HybridSearch(SdkBody):
    """How much meaning counts, and how much words do."""

    embedding_weight: float = Field(ge=0)
    text_weight: float = Field(ge=0)

    @model_validator(mode="after")
    def _something_counts(self) -> "HybridSearch":
        if self.embedding_weight + self.text_weight <= 0:
            raise ValueError("one of embedding_weight and text_weight must be above 0")
        return self


class RankingOptions(SdkBody):
    """How results are ordered and cut off."""

    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    hybrid_search: HybridSearch | None = None


class SearchBody(SdkBody):
    """`POST /v1/vector_stores/{id}/search`."""

    query: str | list[str]
    filters: dict[str, Any] | None = None
    max_num_results: int = Field(10, ge=1, le=50)
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None
