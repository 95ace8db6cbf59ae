"""Who may call which RPC of this room; what is not listed is refused.

Beyond the role, every handler looks at the object: foreign ones do not exist, and what may only be read may not be
changed.
"""

from typing import Final

from services.chassis.auth import Delegates, Policy, Role, at_least

__all__ = ["DELEGATES", "POLICY"]

_VIEWER = at_least(Role.VIEWER)
_CONTRIBUTOR = at_least(Role.CONTRIBUTOR)

POLICY: Final[Policy] = {
    "/brain.ingestion.v1.CollectionService/CreateCollection": _CONTRIBUTOR,
    "/brain.ingestion.v1.CollectionService/GetCollection": _VIEWER,
    "/brain.ingestion.v1.CollectionService/ListCollections": _VIEWER,
    "/brain.ingestion.v1.CollectionService/UpdateCollection": _CONTRIBUTOR,
    "/brain.ingestion.v1.CollectionService/DeleteCollection": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/UploadDocument": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/AddFile": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDocument": _VIEWER,
    "/brain.ingestion.v1.DocumentService/ListDocuments": _VIEWER,
    "/brain.ingestion.v1.DocumentService/UpdateDocument": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/SetAccess": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDocumentText": _VIEWER,
    "/brain.ingestion.v1.DocumentService/DeleteDocument": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDeletion": _CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/CancelDocument": _CONTRIBUTOR,
    "/brain.ingestion.v1.FileBatchService/CreateFileBatch": _CONTRIBUTOR,
    "/brain.ingestion.v1.FileBatchService/GetFileBatch": _VIEWER,
    "/brain.ingestion.v1.FileBatchService/CancelFileBatch": _CONTRIBUTOR,
    "/brain.ingestion.v1.FileService/UploadFile": _CONTRIBUTOR,
    "/brain.ingestion.v1.FileService/GetFile": _VIEWER,
    "/brain.ingestion.v1.FileService/ListFiles": _VIEWER,
    "/brain.ingestion.v1.FileService/DownloadFile": _VIEWER,
    "/brain.ingestion.v1.FileService/DeleteFile": _CONTRIBUTOR,
}

# What a worker room may ask for, with the rights of the caller whose work it does.
DELEGATES: Final[Delegates] = {
    # Training files and their results; documents of a collection, to make rows of them.
    "finetuning": frozenset(
        {
            "/brain.ingestion.v1.DocumentService/GetDocument",
            "/brain.ingestion.v1.DocumentService/GetDocumentText",
            "/brain.ingestion.v1.DocumentService/ListDocuments",
            "/brain.ingestion.v1.FileService/DeleteFile",
            "/brain.ingestion.v1.FileService/DownloadFile",
            "/brain.ingestion.v1.FileService/GetFile",
            "/brain.ingestion.v1.FileService/UploadFile",
        }
    ),
}
