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
_TRAIN: Final = at_least(Role.TRAINER)
_CURATE: Final = at_least(Role.CURATOR)
_ADMINISTER: Final = at_least(Role.ADMINISTRATOR)

POLICY: Final[Policy] = {
    "GET /health/live": _OPEN,
    "GET /health/ready": _OPEN,
    # OpenAI
    "GET /v1/models": _READ,
    "GET /v1/models/{model:path}": _READ,
    "DELETE /v1/models/{model:path}": _TRAIN,
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
    "POST /v1/fine_tuning/jobs": _TRAIN,
    "GET /v1/fine_tuning/jobs": _TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}": _TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": _TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/pause": _TRAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/resume": _TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/events": _TRAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": _TRAIN,
    "POST /v1/fine_tuning/checkpoints/{checkpoint:path}/permissions": _TRAIN,
    "POST /v1/fine_tuning/alpha/graders/run": _TRAIN,
    "POST /v1/fine_tuning/alpha/graders/validate": _TRAIN,
    # Cohere, and the same below /v1 for base addresses that end in it
    "POST /v2/chat": _READ,
    "POST /v1/v2/chat": _READ,
    "POST /v2/rerank": _READ,
    "POST /v1/v2/rerank": _READ,
    "POST /v1/rerank": _READ,
    "POST /v1/v1/rerank": _READ,
    "POST /v2/embed": _READ,
    "POST /v1/v2/embed": _READ,
    "POST /v1/embed": _READ,
    "POST /v1/v1/embed": _READ,
    "POST /v1/tokenize": _READ,
    "POST /v1/v1/tokenize": _READ,
    "POST /v1/detokenize": _READ,
    "POST /v1/v1/detokenize": _READ,
    "POST /v1/check-api-key": _READ,
    "POST /v1/v1/check-api-key": _READ,
    # Native
    "POST /brain/v1/documents": _WRITE,
    "GET /brain/v1/documents": _READ,
    "GET /brain/v1/documents/{document_id}": _READ,
    "GET /brain/v1/documents/{document_id}/text": _READ,
    "PUT /brain/v1/documents/{document_id}/access": _WRITE,
    "PUT /brain/v1/documents/{document_id}/attributes": _WRITE,
    "POST /brain/v1/documents/{document_id}/cancel": _WRITE,
    "DELETE /brain/v1/documents/{document_id}": _WRITE,
    "GET /brain/v1/deletions/{document_id}": _WRITE,
    "POST /brain/v1/collections": _WRITE,
    "GET /brain/v1/collections": _READ,
    "GET /brain/v1/collections/{collection_id}": _READ,
    "PATCH /brain/v1/collections/{collection_id}": _WRITE,
    "DELETE /brain/v1/collections/{collection_id}": _WRITE,
    "GET /brain/v1/collections/{collection_id}/manifest": _READ,
    "GET /brain/v1/conversations": _READ,
    "GET /brain/v1/conversations/{conversation_id}": _READ,
    "DELETE /brain/v1/conversations/{conversation_id}": _READ,  # a conversation is its owner's alone
    "GET /brain/v1/receipts/{receipt_id}": _READ,
    "POST /brain/v1/receipts/{receipt_id}/replay": _READ,
    "POST /brain/v1/feedback": _READ,
    "GET /brain/v1/feedback": _READ,  # one's own; a curator sees what others said
    "POST /brain/v1/feedback/export": _CURATE,
    "GET /brain/v1/feedback/{feedback_id}": _READ,
    "DELETE /brain/v1/feedback/{feedback_id}": _READ,
    "POST /brain/v1/comparisons": _WRITE,  # puts a question before others
    "GET /brain/v1/comparisons": _READ,
    "GET /brain/v1/comparisons/{comparison_id}": _READ,
    "POST /brain/v1/comparisons/{comparison_id}/rank": _READ,
    "DELETE /brain/v1/comparisons/{comparison_id}": _WRITE,
    "GET /brain/v1/agreement": _CURATE,
    "POST /brain/v1/search": _READ,
    "POST /brain/v1/explain": _READ,
    "POST /brain/v1/datasets": _TRAIN,
    "GET /brain/v1/datasets": _TRAIN,
    "GET /brain/v1/datasets/{dataset_id}": _TRAIN,
    "DELETE /brain/v1/datasets/{dataset_id}": _TRAIN,
    "POST /brain/v1/tuning/check": _TRAIN,
    "GET /brain/v1/adapters": _TRAIN,
    "POST /brain/v1/adapters": _TRAIN,
    "GET /brain/v1/adapters/{adapter:path}": _TRAIN,
    "POST /brain/v1/adapters/{adapter:path}/block": _TRAIN,
    "POST /brain/v1/adapters/{adapter:path}/accept": _ADMINISTER,  # against what a deletion asked for
    "POST /brain/v1/adapters/{adapter:path}/retrain": _TRAIN,
    "DELETE /brain/v1/adapters/{adapter:path}": _TRAIN,
    "POST /brain/v1/promotions": _TRAIN,
    "GET /brain/v1/promotions": _TRAIN,
    "GET /brain/v1/promotions/{promotion_id}": _TRAIN,
    "GET /brain/v1/aliases": _TRAIN,
    "POST /brain/v1/aliases/{alias}/rollback": _TRAIN,
    "POST /brain/v1/webhooks": _ADMINISTER,
    "GET /brain/v1/webhooks": _ADMINISTER,
    "DELETE /brain/v1/webhooks/{webhook_id}": _ADMINISTER,
    "GET /brain/v1/me": _READ,
    "POST /brain/v1/keys": _ADMINISTER,
    "GET /brain/v1/keys": _ADMINISTER,
    "POST /brain/v1/keys/{key_id}/rotate": _ADMINISTER,
    "DELETE /brain/v1/keys/{key_id}": _ADMINISTER,
    "GET /brain/v1/tenant": _ADMINISTER,
    "GET /brain/v1/usage": _ADMINISTER,
    "GET /brain/v1/audit": _ADMINISTER,
    "GET /brain/v1/status": _ADMINISTER,
}
