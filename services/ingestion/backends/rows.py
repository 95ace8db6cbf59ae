"""Rows of the database as the domain's words, and back."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, select

from services.ingestion.backends.tables import documents, versions
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.collections import Collection, CollectionUse
from services.ingestion.domain.deletion import Deletion, StoreCount
from services.ingestion.domain.documents import Document, DocumentState, Failure, Version
from services.ingestion.domain.files import File, Purpose
from services.ingestion.domain.text import Chunking, FailureCode

__all__ = [
    "batch_of",
    "collection_of",
    "collection_row",
    "deletion_of",
    "document_of",
    "document_query",
    "document_row",
    "file_of",
    "file_row",
    "is_newest",
    "version_of",
    "version_row",
]

# Both tables have some names in common: a version's come with this before them.
_V = "v_"


def file_of(row: Row[Any]) -> File:
    """Return a row of `files` as a file."""
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's public name for the row as a mapping
    return File(**values | {"purpose": Purpose(row.purpose)})


def file_row(file: File) -> dict[str, Any]:
    """Return a file as a row."""
    return asdict(file) | {"purpose": file.purpose.value}


def collection_of(row: Row[Any], use: CollectionUse) -> Collection:
    """Return a row of `collections`, with what it holds."""
    return Collection(
        collection_id=row.collection_id,
        tenant=row.tenant,
        owner=row.owner,
        name=row.name,
        metadata=row.metadata,
        default_principals=tuple(row.default_principals),
        chunking=Chunking(row.max_tokens, row.overlap_tokens),
        expires_after_days=row.expires_after_days,
        created_at=row.created_at,
        last_active_at=row.last_active_at,
        use=use,
    )


def collection_row(collection: Collection) -> dict[str, Any]:
    """Return a collection as a row."""
    return {
        "collection_id": collection.collection_id,
        "tenant": collection.tenant,
        "owner": collection.owner,
        "name": collection.name,
        "metadata": dict(collection.metadata),
        "default_principals": list(collection.default_principals),
        "max_tokens": collection.chunking.max_tokens,
        "overlap_tokens": collection.chunking.overlap_tokens,
        "expires_after_days": collection.expires_after_days,
        "created_at": collection.created_at,
        "last_active_at": collection.last_active_at,
    }


def document_query() -> Select[Any]:
    """Return the query for documents, each with its newest version."""
    newest = [column.label(_V + column.name) for column in versions.c]
    return select(*documents.c, *newest).select_from(documents.join(versions, is_newest()))


def is_newest() -> ColumnElement[bool]:
    """Return the condition that joins documents with their newest versions."""
    return (versions.c.document_id == documents.c.document_id) & (versions.c.number == documents.c.newest_version)


def document_of(row: Row[Any]) -> Document:
    """Return a row of `document_query` as a document."""
    return Document(
        document_id=row.document_id,
        tenant=row.tenant,
        collection_id=row.collection_id,
        key=row.key,
        owner=row.owner,
        principals=tuple(row.principals),
        access_revision=row.access_revision,
        attributes=row.attributes,
        attributes_revision=row.attributes_revision,
        active_version=row.active_version,
        deleting=row.deleting,
        created_at=row.created_at,
        updated_at=row.updated_at,
        newest=version_of(row, prefix=_V),
    )


def document_row(document: Document) -> dict[str, Any]:
    """Return a document as a row."""
    return {
        "document_id": document.document_id,
        "tenant": document.tenant,
        "collection_id": document.collection_id,
        "key": document.key,
        "live_key": None if document.deleting else document.key,
        "owner": document.owner,
        "principals": list(document.principals),
        "access_revision": document.access_revision,
        "attributes": dict(document.attributes),
        "attributes_revision": document.attributes_revision,
        "newest_version": document.newest.number,
        "active_version": document.active_version,
        "deleting": document.deleting,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
    }


def version_of(row: Row[Any], *, prefix: str = "") -> Version:
    """Return a row of `versions`; its columns may come with a prefix."""
    column = {name.removeprefix(prefix): value for name, value in row._mapping.items() if name.startswith(prefix)}  # noqa: SLF001
    code = column["failure_code"]
    return Version(
        document_id=column["document_id"],
        number=column["number"],
        file_id=column["file_id"],
        filename=column["filename"],
        digest=column["digest"],
        size_bytes=column["size_bytes"],
        media_type=column["media_type"],
        title=column["title"],
        chunking=Chunking(column["max_tokens"], column["overlap_tokens"]),
        state=DocumentState(column["state"]),
        received_at=column["received_at"],
        updated_at=column["updated_at"],
        failure=Failure(FailureCode(code), column["failure_reason"]) if code else None,
        chunk_count=column["chunk_count"],
        warnings=tuple(column["warnings"]),
    )


def version_row(version: Version) -> dict[str, Any]:
    """Return a version as a row, without its tenant."""
    return {
        "document_id": version.document_id,
        "number": version.number,
        "file_id": version.file_id,
        "filename": version.filename,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "media_type": version.media_type,
        "title": version.title,
        "names": f"{version.filename}\n{version.title}".casefold(),
        "max_tokens": version.chunking.max_tokens,
        "overlap_tokens": version.chunking.overlap_tokens,
        "state": version.state.value,
        "failure_code": version.failure.code.value if version.failure else "",
        "failure_reason": version.failure.reason if version.failure else "",
        "chunk_count": version.chunk_count,
        "warnings": list(version.warnings),
        "received_at": version.received_at,
        "updated_at": version.updated_at,
    }


def deletion_of(row: Row[Any]) -> Deletion:
    """Return a row of `deletions` as a receipt."""
    values = dict(row._mapping)  # noqa: SLF001  the same
    return Deletion(**values | {"stores": tuple(StoreCount(**entry) for entry in row.stores)})


def batch_of(row: Row[Any], use: CollectionUse) -> FileBatch:
    """Return a row of `batches`, with the states of its documents."""
    return FileBatch(
        batch_id=row.batch_id,
        tenant=row.tenant,
        collection_id=row.collection_id,
        owner=row.owner,
        created_at=row.created_at,
        cancelled=row.cancelled,
        file_ids=tuple(row.file_ids),
        use=use,
    )
