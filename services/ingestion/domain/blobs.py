"""Where the room's blobs lie."""

from typing import Final

from services.chassis.ids import new_id

__all__ = ["UPLOADS", "Blob", "document_folders", "file_key", "files_folder", "upload_key", "version_key"]

# Unfinished uploads; the id in a name tells its age.
UPLOADS: Final = "uploads"


class Blob:
    """Kinds of blobs that belong to a document: folder and ending."""

    TEXT: Final = ("text", "txt")
    CHUNKS: Final = ("chunks", "pb")
    BOXES: Final = ("boxes", "bin")
    SECTIONS: Final = ("sections", "json")
    ATTRIBUTES: Final = ("attributes", "json")
    ALL: Final = (TEXT, CHUNKS, BOXES, SECTIONS, ATTRIBUTES)


def files_folder(tenant: str) -> str:
    """Return the folder of a tenant's files."""
    return f"{tenant}/files"


def file_key(tenant: str, digest: str) -> str:
    """Return where bytes with this SHA-256 are kept."""
    return f"{files_folder(tenant)}/{digest}"


def upload_key() -> str:
    """Return where an upload lies until its digest is known."""
    return f"{UPLOADS}/{new_id('up_')}"


def version_key(tenant: str, kind: tuple[str, str], document_id: str, number: int) -> str:
    """Return where something of a version (or of a revision of the attributes) is kept."""
    folder, ending = kind
    return f"{tenant}/{folder}/{document_id}/{number}.{ending}"


def document_folders(tenant: str, document_id: str) -> tuple[str, ...]:
    """Return every folder that holds blobs of one document."""
    return tuple(f"{tenant}/{folder}/{document_id}" for folder, _ in Blob.ALL)
