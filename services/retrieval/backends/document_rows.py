"""How the register's rows become what the room knows of documents and versions."""

from typing import Any

from sqlalchemy import Row, Select, and_, select

from services.retrieval.backends.tables import documents, versions
from services.retrieval.domain import DocumentState, VersionState

__all__ = ["document_states", "state_of", "version_of"]


def document_states() -> Select[Any]:
    """Return the query for documents with their active versions."""
    join = documents.outerjoin(
        versions,
        and_(
            versions.c.tenant == documents.c.tenant,
            versions.c.document_id == documents.c.document_id,
            versions.c.version == documents.c.active_version,
        ),
    )
    columns = [versions.c[name].label(f"version_{name}") for name in versions.c.keys()]  # noqa: SIM118
    return select(documents, *columns).select_from(join)


def version_of(row: Row[Any], prefix: str = "") -> VersionState:
    """Return the version in a row whose columns begin with `prefix`."""
    held = row._mapping  # noqa: SLF001  SQLAlchemy's public view of a row as a mapping
    return VersionState(
        document_id=held[f"{prefix}document_id"],
        version=held[f"{prefix}version"],
        file_id=held[f"{prefix}file_id"],
        filename=held[f"{prefix}filename"],
        title=held[f"{prefix}title"],
        text_blob_key=held[f"{prefix}text_blob_key"],
        chunks_blob_key=held[f"{prefix}chunks_blob_key"],
        chunk_count=held[f"{prefix}chunk_count"],
    )


def state_of(row: Row[Any]) -> DocumentState:
    """Return the document in a row of `document_states`."""
    return DocumentState(
        document_id=row.document_id,
        collection_id=row.collection_id,
        active_version=row.active_version,
        principals=tuple(row.principals),
        access_revision=row.access_revision,
        attributes=row.attributes,
        attributes_revision=row.attributes_revision,
        withheld=row.withheld,
        removed=row.removed,
        active=None if row.version_version is None else version_of(row, "version_"),
    )
