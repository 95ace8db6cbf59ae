"""Collections: named sets of documents with one way of cutting, a default access list and an expiry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.chassis.errors import InvalidInput
from services.ingestion.domain.text import DEFAULT_CHUNKING, Chunking

__all__ = [
    "Collection",
    "CollectionUse",
    "checked_chunking",
    "checked_expiry_days",
    "checked_metadata",
    "checked_name",
]

_MAX_NAME: Final = 256
_MAX_PAIRS: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512
_MAX_EXPIRY_DAYS: Final = 365


@dataclass(frozen=True, slots=True)
class CollectionUse:
    """What a collection holds: documents by state, and bytes of the versions that are searchable."""

    in_progress: int = 0
    indexed: int = 0
    failed: int = 0
    cancelled: int = 0
    usage_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents. Times are seconds since 1970, UTC.

    Attributes:
        collection_id: Id.
        tenant: Tenant it belongs to.
        owner: Who made it.
        name: Name; may be empty.
        metadata: Caller's notes.
        default_principals: Who may read documents that name no access list of their own.
        chunking: How its documents are cut.
        expires_after_days: Days without a change after which it goes; 0 for never.
        created_at: When it was made.
        last_active_at: When it was last changed.
        use: What it holds, where that was asked for.
    """

    collection_id: str
    tenant: str
    owner: str
    name: str
    metadata: Mapping[str, str]
    default_principals: tuple[str, ...]
    chunking: Chunking
    expires_after_days: int
    created_at: float
    last_active_at: float
    use: CollectionUse = field(default_factory=CollectionUse)


def checked_chunking(max_tokens: int, overlap_tokens: int) -> Chunking:
    """Return how to cut; `max_tokens` 0 stands for the default.

    Raises:
        InvalidInput: Outside what is allowed.
    """
    if max_tokens == 0:
        return DEFAULT_CHUNKING
    if not 100 <= max_tokens <= 4096:
        raise InvalidInput(
            f"max_tokens: {max_tokens} is not between 100 and 4096; 0 means the default.", param="chunking.max_tokens"
        )
    if overlap_tokens > max_tokens // 2:
        raise InvalidInput(
            f"overlap_tokens: {overlap_tokens} is more than half of max_tokens ({max_tokens}).",
            param="chunking.overlap_tokens",
        )
    return Chunking(max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def checked_name(name: str) -> str:
    """Return the name of a collection.

    Raises:
        InvalidInput: Too long.
    """
    if len(name) > _MAX_NAME:
        raise InvalidInput(f"name: {len(name)} characters are more than {_MAX_NAME}.", param="name")
    return name


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a collection's notes.

    Raises:
        InvalidInput: More or longer pairs than allowed.
    """
    if len(metadata) > _MAX_PAIRS:
        raise InvalidInput(f"metadata: {len(metadata)} pairs are more than {_MAX_PAIRS}.", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= _MAX_KEY:
            raise InvalidInput(f"metadata: the key {key[:80]!r} is not 1 to {_MAX_KEY} characters.", param="metadata")
        if len(value) > _MAX_VALUE:
            raise InvalidInput(
                f"metadata: the value of {key!r} is longer than {_MAX_VALUE} characters.", param="metadata"
            )
    return dict(metadata)


def checked_expiry_days(days: int) -> int:
    """Return after how many days without a change a collection goes; 0 for never.

    Raises:
        InvalidInput: More than a year.
    """
    if not 0 <= days <= _MAX_EXPIRY_DAYS:
        raise InvalidInput(
            f"expires_after_days: {days} is not between 0 and {_MAX_EXPIRY_DAYS}.", param="expires_after"
        )
    return days
