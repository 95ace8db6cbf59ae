"""Who may use which route. What is not listed is refused: the gateway does not start with a route that has no row.

A row says what the least role may do; which objects it may do it to is decided by the rooms, which answer NotFound for
what the caller may not know of.
"""

from typing import Final

from services.chassis.auth import ANYONE, Policy, Role, at_least

__all__ = ["POLICY"]

_OPEN: Final[frozenset[Role]] = frozenset()  # answers without a key, and tells nothing that needs one
_READ: Final = ANYONE
_WRITE: Final = at_least(Role.CONTRIBUTOR)
_ADMINISTER: Final = at_least(Role.ADMINISTRATOR)

POLICY: Final[Policy] = {
    "GET /health/live": _OPEN,
    "GET /health/ready": _OPEN,
    # OpenAI
    "GET /v1/models": _READ,
    "GET /v1/models/{model:path}": _READ,
    "POST /v1/chat/completions": _READ,
    "POST /v1/completions": _READ,
    "POST /v1/embeddings": _READ,
    "POST /v1/files": _WRITE,
    "GET /v1/files": _READ,
    "GET /v1/files/{file_id}": _READ,
    "GET /v1/files/{file_id}/content": _READ,
    "DELETE /v1/files/{file_id}": _WRITE,
    "POST /v1/vector_stores": _WRITE,
    "GET /v1/vector_stores": _READ,
    "GET /v1/vector_stores/{store_id}": _READ,
    "POST /v1/vector_stores/{store_id}": _WRITE,
    "DELETE /v1/vector_stores/{store_id}": _WRITE,
    "POST /v1/vector_stores/{store_id}/search": _READ,
    "POST /v1/vector_stores/{store_id}/files": _WRITE,
    "GET /v1/vector_stores/{store_id}/files": _READ,
    "GET /v1/vector_stores/{store_id}/files/{file_id}": _READ,
    "POST /v1/vector_stores/{store_id}/files/{file_id}": _WRITE,
    "DELETE /v1/vector_stores/{store_id}/files/{file_id}": _WRITE,
    "GET /v1/vector_stores/{store_id}/files/{file_id}/content": _READ,
    "POST /v1/vector_stores/{store_id}/file_batches": _WRITE,
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}": _READ,
    "POST /v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel": _WRITE,
    "GET /v1/vector_stores/{store_id}/file_batches/{batch_id}/files": _READ,
}
