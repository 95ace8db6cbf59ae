"""Keeping: files, collections, documents, batches and receipts of deletion."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from gateway.domain.asking import Locator

__all__ = [
    "Batch",
    "BatchItem",
    "Chunking",
    "Collection",
    "CollectionChanges",
    "Counts",
    "Deletion",
    "Document",
    "DocumentState",
    "DocumentText",
    "NewDocument",
    "Page",
    "Paging",
    "StoreCount",
    "StoredFile",
    "TextSection",
]

Item_co = TypeVar("Item_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item_co]):
    """A stretch of a list, and whether more follows."""

    items: tuple[Item_co, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Paging:
    """Which stretch of a list; newest first unless `ascending`."""

    limit: int = 0
    after: str = ""
    before: str = ""
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A kept file."""

    id: str
    filename: str
    purpose: str
    size_bytes: int
    digest: str
    created_at: datetime
    expires_at: datetime | None
    media_type: str


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut, in the embedder's tokens; 0 is the default (220 with 40 shared)."""

    max_tokens: int = 0
    overlap_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents by state."""

    in_progress: int = 0
    indexed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.indexed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents; `expires_after_days` 0 is never."""

    id: str
    name: str
    owner: str
    created_at: datetime
    last_active_at: datetime
    metadata: Mapping[str, str]
    default_principals: tuple[str, ...]
    chunking: Chunking
    expires_after_days: int
    counts: Counts
    usage_bytes: int


@dataclass(frozen=True, slots=True)
class CollectionChanges:
    """Changes to a collection; None leaves things as they are."""

    name: str | None = None
    metadata: Mapping[str, str] | None = None
    default_principals: tuple[str, ...] | None = None
    expires_after_days: int | None = None


class DocumentState(StrEnum):
    """What has become of a document's newest version."""

    RECEIVED = "received"
    PARSING = "parsing"
    CHUNKED = "chunked"
    INDEXED = "indexed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Document:
    """A document; `failure_code` and `failure_reason` are empty unless it failed."""

    id: str
    collection_id: str
    key: str
    file_id: str
    filename: str
    title: str
    version: int
    active_version: int
    state: DocumentState
    failure_code: str
    failure_reason: str
    digest: str
    size_bytes: int
    media_type: str
    owner: str
    principals: tuple[str, ...]
    attributes_json: str
    chunking: Chunking
    chunk_count: int
    created_at: datetime
    updated_at: datetime
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to bring; principals None leaves access to the collection's default (or what it is)."""

    collection_id: str
    filename: str
    key: str = ""
    principals: tuple[str, ...] | None = None
    attributes_json: str = ""
    chunking: Chunking | None = None


@dataclass(frozen=True, slots=True)
class TextSection:
    """A stretch of stored text under one page and heading."""

    start: int
    end: int
    locator: Locator


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The stored text that offsets count in."""

    document_id: str
    version: int
    text: str
    sections: tuple[TextSection, ...]


@dataclass(frozen=True, slots=True)
class StoreCount:
    """One store in a deletion: what was removed, what is left, and whether that was counted."""

    store: str
    removed: int
    remaining: int
    counted: bool


@dataclass(frozen=True, slots=True)
class Deletion:
    """The receipt of a deletion; `completed_at` is None while the work goes on."""

    document_id: str
    withheld_at: datetime
    completed_at: datetime | None
    stores: tuple[StoreCount, ...]


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A file of a batch to make."""

    file_id: str
    attributes_json: str = ""
    chunking: Chunking | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that were added to a collection together."""

    id: str
    collection_id: str
    created_at: datetime
    counts: Counts
    cancelled: bool
    file_ids: tuple[str, ...]
