"""The bodies and query strings of the native API."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from gateway.api.bodies import Principal
from gateway.domain.keeping import DocumentState
from services.chassis.auth import Role

__all__ = [
    "Access",
    "Attributes",
    "AuditQuery",
    "CollectionBody",
    "CollectionChange",
    "CollectionQuery",
    "DocumentsQuery",
    "ExplainBody",
    "KeyBody",
    "ListQuery",
    "Moment",
    "RotateBody",
    "SearchBody",
    "Several",
    "Strict",
    "TextQuery",
    "UploadQuery",
    "UsageQuery",
]


def _several(value: object) -> object:
    """Take one value, several, or an empty one for an empty list."""
    if isinstance(value, str):
        value = [value]
    return [item for item in value if item != ""] if isinstance(value, list) else value


Several = BeforeValidator(_several)
# A time without a zone is one of UTC.
Moment = Annotated[datetime, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]


class Strict(BaseModel):
    """Our own API says so when a field is misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListQuery(Strict):
    """Which stretch of a list."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""
    order: Literal["asc", "desc"] = "desc"


class UploadQuery(Strict):
    """How an uploaded document is to be kept; its bytes are the body."""

    collection: str = Field(min_length=1)
    filename: str = Field(min_length=1, max_length=512)
    key: str = Field("", max_length=1024)
    access: Annotated[list[Principal] | None, Several] = None
    attributes: str = ""
    chunk_tokens: int | None = Field(None, ge=100, le=4096)
    chunk_overlap_tokens: int | None = Field(None, ge=0)


class DocumentsQuery(ListQuery):
    """Which documents."""

    collection: str = Field(min_length=1)
    limit: int = Field(20, ge=1, le=1000)
    state: Annotated[list[DocumentState], Several] = []
    name: str = ""
    key_prefix: str = ""


class TextQuery(Strict):
    """Which version's text; 0 is the active one."""

    version: int = Field(0, ge=0, lt=2**32)


class Access(Strict):
    """Who may read a document, besides its owner and administrators."""

    # As many as ingestion takes: what is refused there must not have blocked adapters here.
    access: list[Principal] = Field(max_length=500)


class Attributes(Strict):
    """A document's attributes."""

    attributes: dict[str, str | float | bool] = Field(max_length=16)


class CollectionBody(Strict):
    """A collection to make."""

    name: str = Field("", max_length=256)
    metadata: dict[str, str] = Field(default={}, max_length=16)
    default_access: list[Principal] = Field(default=[], max_length=1000)
    chunk_tokens: int | None = Field(None, ge=100, le=4096)
    chunk_overlap_tokens: int | None = Field(None, ge=0)
    expires_after_days: int | None = Field(None, ge=1, le=365)


class CollectionChange(Strict):
    """Changes to a collection; what is not given stays."""

    name: str | None = Field(None, max_length=256)
    metadata: dict[str, str] | None = Field(None, max_length=16)
    default_access: list[Principal] | None = Field(None, max_length=1000)
    expires_after_days: int | None = Field(None, ge=0, le=365)


class CollectionQuery(ListQuery):
    """Which collections."""

    name: str = ""


class SearchBody(Strict):
    """A search."""

    query: str | list[str]
    collections: list[str] = Field(min_length=1, max_length=50)
    filters: dict[str, Any] | None = None
    top_k: int = Field(10, ge=1, le=50)
    alpha: float | None = Field(None, ge=0, le=1)
    fusion: Literal["", "relative_score", "reciprocal_rank"] = ""
    ranker: str = ""
    score_threshold: float | None = Field(None, ge=0, le=1)
    mmr_lambda: float | None = Field(None, ge=0, le=1)
    explain: bool = False

    @field_validator("query")
    @classmethod
    def _says_something(cls, value: str | list[str]) -> str | list[str]:
        queries = [value] if isinstance(value, str) else value
        if not queries or not all(query.strip() for query in queries):
            raise ValueError("give at least one query that is not empty")
        return value

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, however they came."""
        return (self.query,) if isinstance(self.query, str) else tuple(self.query)


class ExplainBody(Strict):
    """Why didn't you find it?"""

    document: str = Field(min_length=1, max_length=512)
    question: str = ""
    collections: list[str] = Field(default=[], max_length=50)
    receipt_id: str = ""
    filters: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=1, le=50)
    principals: list[Principal] = Field(default=[], max_length=100)


class KeyBody(Strict):
    """An API key to make, for the caller's own tenant."""

    subject: str = Field(min_length=1, max_length=128)
    roles: list[Role] = Field(min_length=1)
    groups: list[str] = Field(default=[], max_length=100)
    name: str = Field("", max_length=128)
    expires_at: Moment | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    max_concurrent: int | None = Field(None, ge=1)


class RotateBody(Strict):
    """How long the old key lives on beside the new one."""

    overlap_s: int = Field(0, ge=0, le=7 * 24 * 3600)


class AuditQuery(Strict):
    """Which entries of the audit log."""

    limit: int = Field(100, ge=1, le=1000)
    before: Moment | None = None


class UsageQuery(Strict):
    """Since when."""

    since: Moment | None = None
