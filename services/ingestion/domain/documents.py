"""Documents: one source with versions, an access list and attributes, and what becomes of each version."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from services.chassis.errors import InvalidInput
from services.ingestion.domain.access import readers
from services.ingestion.domain.text import Chunking, FailureCode

__all__ = [
    "FINAL",
    "PARSE_JOB",
    "WAITING",
    "Attributes",
    "Document",
    "DocumentQuery",
    "DocumentState",
    "Failure",
    "Page",
    "Version",
    "attributes_json",
    "checked_attributes",
    "checked_key",
    "is_unchanged",
]

Attributes = Mapping[str, str | int | float | bool]

# Kind of the jobs that read versions.
PARSE_JOB: Final = "parse"
_MAX_PAIRS: Final = 16
_MAX_ATTRIBUTE_KEY: Final = 64
_MAX_VALUE: Final = 512
_MAX_KEY: Final = 1_024
# JSON may spell what no text can hold and no store takes.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FILE_KEY: Final = re.compile(r"file-[0-9a-f]{32}")


class DocumentState(StrEnum):
    """What has become of a version; of a document: of its newest version."""

    RECEIVED = "received"
    PARSING = "parsing"
    CHUNKED = "chunked"
    INDEXED = "indexed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"


# States in which a version waits for its reader; a parse job exists.
WAITING: Final = frozenset({DocumentState.RECEIVED, DocumentState.PARSING})
# States that end the work on a version.
FINAL: Final = frozenset({DocumentState.INDEXED, DocumentState.FAILED, DocumentState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not searchable, in words that a person understands."""

    code: FailureCode
    reason: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document. Times are seconds since 1970, UTC."""

    document_id: str
    number: int
    file_id: str
    filename: str
    digest: str
    size_bytes: int
    media_type: str
    title: str
    chunking: Chunking
    state: DocumentState
    received_at: float
    updated_at: float
    failure: Failure | None = None
    chunk_count: int = 0
    warnings: tuple[str, ...] = ()

    def failed(self, failure: Failure, at: float) -> "Version":
        """Return the version as one that never becomes searchable."""
        return replace(self, state=DocumentState.FAILED, failure=failure, updated_at=at)


@dataclass(frozen=True, slots=True)
class Document:
    """A document with its newest version. Times are seconds since 1970, UTC.

    Attributes:
        document_id: Id.
        tenant: Tenant it belongs to.
        collection_id: Collection that holds it.
        key: Caller's key; the file id when the caller gave none.
        owner: Who owns it.
        principals: Who may read it besides the owner and those who look after all.
        access_revision: Grows with each change of `principals`.
        attributes: Caller's attributes.
        attributes_revision: Grows with each change of `attributes`.
        active_version: Version that is searchable; 0 when none is.
        deleting: Whether it is withheld and on its way out.
        created_at: When it was first received.
        updated_at: When it last changed.
        newest: Its newest version.
    """

    document_id: str
    tenant: str
    collection_id: str
    key: str
    owner: str
    principals: tuple[str, ...]
    access_revision: int
    attributes: Attributes
    attributes_revision: int
    active_version: int
    deleting: bool
    created_at: float
    updated_at: float
    newest: Version

    @property
    def state(self) -> DocumentState:
        """What has become of the newest version, or that the document is going."""
        return DocumentState.DELETING if self.deleting else self.newest.state

    @property
    def readers(self) -> tuple[str, ...]:
        """The principals for the index: the owner and the access list."""
        return readers(self.owner, self.principals)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: at most `limit` entries after or before an id, newest first unless `ascending`."""

    limit: int
    after: str = ""
    before: str = ""
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """Which documents of a collection; empty fields do not narrow.

    `visible_to` names the principals of a caller who sees only what access lists allow; None sees all.
    """

    page: Page
    states: tuple[DocumentState, ...] = ()
    file_ids: tuple[str, ...] = ()
    key_prefix: str = ""
    name_contains: str = ""
    visible_to: tuple[str, ...] | None = None
    owner: str = ""


def checked_key(key: str) -> str:
    """Return the caller's key of a document.

    Raises:
        InvalidInput: Too long, with control characters, or of the form that is kept for files.
    """
    if len(key) > _MAX_KEY:
        raise InvalidInput(f"key: {len(key)} characters are more than {_MAX_KEY}.", param="key")
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in key):
        raise InvalidInput("key: control characters are not allowed.", param="key")
    if _FILE_KEY.fullmatch(key):
        raise InvalidInput(f"key: {key!r} looks like a file id; such keys are kept for files.", param="key")
    return key


def checked_attributes(text: str) -> dict[str, str | int | float | bool]:
    """Return the attributes that a JSON object holds; empty text holds none.

    Raises:
        InvalidInput: Not a flat JSON object of at most 16 strings, numbers and booleans.
    """
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("attributes: not valid JSON.", param="attributes") from error
    if not isinstance(found, dict):
        raise InvalidInput("attributes: not a JSON object.", param="attributes")
    if len(found) > _MAX_PAIRS:
        raise InvalidInput(f"attributes: {len(found)} pairs are more than {_MAX_PAIRS}.", param="attributes")
    for name, value in found.items():
        _check_attribute(name, value)
    return found


def _check_attribute(name: str, value: object) -> None:
    if not 1 <= len(name) <= _MAX_ATTRIBUTE_KEY:
        raise InvalidInput(
            f"attributes: the key {name[:80]!r} is not 1 to {_MAX_ATTRIBUTE_KEY} characters.", param="attributes"
        )
    if _SURROGATE.search(name) or (isinstance(value, str) and _SURROGATE.search(value)):
        raise InvalidInput(
            f"attributes: {name!r} or its value holds half a surrogate pair, which is no text.", param="attributes"
        )
    match value:
        case bool():
            return
        case str() if len(value) <= _MAX_VALUE:
            return
        case str():
            raise InvalidInput(
                f"attributes: the value of {name!r} is longer than {_MAX_VALUE} characters.", param="attributes"
            )
        case int() | float() if abs(value) <= 2**53:
            return
        case _:
            raise InvalidInput(
                f"attributes: the value of {name!r} is not a string, a boolean or a finite number within 2^53.",
                param="attributes",
            )


def attributes_json(attributes: Attributes) -> str:
    """Return the attributes as a JSON object; empty for none."""
    return json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True) if attributes else ""


def is_unchanged(newest: Version, *, digest: str, chunking: Chunking | None) -> bool:
    """Return whether an upload of these bytes would repeat what is there.

    It would not when it is to be cut otherwise, or when the newest version was cancelled or failed through our fault:
    then the upload is a second try.
    """
    if newest.digest != digest or (chunking is not None and chunking != newest.chunking):
        return False
    if newest.state is DocumentState.CANCELLED:
        return False
    return newest.failure is None or newest.failure.code is not FailureCode.SERVER_ERROR
