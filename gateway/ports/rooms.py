"""What the gateway needs from the rooms that keep, find, answer and generate, and from their own word on their health."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from typing import Protocol

from gateway.domain.asking import (
    AnswerEvent,
    ChatTurn,
    Completion,
    Conversation,
    Message,
    Model,
    Prompt,
    Receipt,
    Replay,
    Sampling,
    Tokens,
)
from gateway.domain.finding import Explanation, Passage, Ranking, SearchSpec, Vectors
from gateway.domain.keeping import (
    Batch,
    BatchItem,
    Chunking,
    Collection,
    CollectionChanges,
    Deletion,
    Document,
    DocumentState,
    DocumentText,
    NewDocument,
    Page,
    Paging,
    StoredFile,
)

__all__ = [
    "Chat",
    "Generation",
    "Ingestion",
    "Probe",
    "Retrieval",
]


class Ingestion(Protocol):
    """Keeps files, collections and documents."""

    async def upload_file(
        self, *, filename: str, purpose: str, expires_after_s: int, data: AsyncIterable[bytes]
    ) -> StoredFile:
        """Keep a file."""
        ...

    async def get_file(self, file_id: str) -> StoredFile:
        """Return a file's record."""
        ...

    async def list_files(self, *, purpose: str, paging: Paging) -> Page[StoredFile]:
        """Return the caller's files; paging by `before` is not offered for files."""
        ...

    def download_file(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes."""
        ...

    async def delete_file(self, file_id: str) -> Sequence[str]:
        """Delete a file and return the documents that went with it."""
        ...

    async def create_collection(
        self,
        *,
        name: str,
        metadata: Mapping[str, str],
        default_principals: Sequence[str],
        chunking: Chunking | None,
        expires_after_days: int,
    ) -> Collection:
        """Make an empty collection."""
        ...

    async def get_collection(self, collection_id: str) -> Collection:
        """Return a collection with its counts."""
        ...

    async def list_collections(self, paging: Paging, *, name: str = "") -> Page[Collection]:
        """Return the tenant's collections."""
        ...

    async def update_collection(self, collection_id: str, changes: CollectionChanges) -> Collection:
        """Change a collection."""
        ...

    async def delete_collection(self, collection_id: str) -> int:
        """Delete a collection and return how many documents go with it."""
        ...

    async def upload_document(self, new: NewDocument, data: AsyncIterable[bytes]) -> tuple[Document, bool]:
        """Keep a document; return it and whether the same bytes were there already."""
        ...

    async def add_file(
        self,
        *,
        collection_id: str,
        file_id: str,
        attributes_json: str,
        chunking: Chunking | None,
        principals: Sequence[str] | None = None,
    ) -> tuple[Document, bool]:
        """Make a document of a kept file; return it and whether it was there already."""
        ...

    async def get_document(self, document_id: str) -> Document:
        """Return a document by id."""
        ...

    async def get_document_of_file(self, collection_id: str, file_id: str) -> Document:
        """Return the document that a file is in a collection."""
        ...

    async def list_documents(
        self,
        collection_id: str,
        paging: Paging,
        *,
        states: Sequence[DocumentState] = (),
        file_ids: Sequence[str] = (),
        key_prefix: str = "",
        name_contains: str = "",
    ) -> Page[Document]:
        """Return the documents of a collection that the caller may see."""
        ...

    async def update_document(self, document_id: str, attributes_json: str) -> Document:
        """Replace a document's attributes."""
        ...

    async def set_access(self, document_id: str, principals: Sequence[str]) -> Document:
        """Replace a document's access list; narrowing it holds at once."""
        ...

    async def get_document_text(self, document_id: str, version: int = 0) -> DocumentText:
        """Return the stored text of a version (0: the active one)."""
        ...

    async def delete_document(self, document_id: str) -> Deletion:
        """Withhold a document at once and begin to remove it; return the receipt so far."""
        ...

    async def get_deletion(self, document_id: str) -> Deletion:
        """Return the receipt of a deletion."""
        ...

    async def cancel_document(self, document_id: str) -> Document:
        """End the work on a document that is not searchable yet."""
        ...

    async def create_batch(self, collection_id: str, items: Sequence[BatchItem]) -> Batch:
        """Add files to a collection together."""
        ...

    async def get_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Return a batch with its counts."""
        ...

    async def cancel_batch(self, collection_id: str, batch_id: str) -> Batch:
        """Cancel what is not searchable yet."""
        ...


class Retrieval(Protocol):
    """Finds passages."""

    async def search(self, spec: SearchSpec, *, explain: bool = False) -> Sequence[Passage]:
        """Return the best passages, best first; with `explain`, with the parts of their scores."""
        ...

    async def explain(self, spec: SearchSpec, document_id: str) -> Explanation:
        """Say what becomes of one document in a search."""
        ...

    async def rerank(self, query: str, texts: Sequence[str], *, top_n: int = 0, ranker: str = "") -> Ranking:
        """Order texts by relevance to a query."""
        ...

    async def embed(self, texts: Sequence[str], *, queries: bool = False) -> Vectors:
        """Turn texts into unit vectors."""
        ...


class Chat(Protocol):
    """Answers turns, and remembers how."""

    def answer(self, turn: ChatTurn) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what happens while a turn is answered; closing the iterator ends the work."""
        ...

    async def list_conversations(self, paging: Paging) -> Page[Conversation]:
        """Return the caller's conversations, newest first."""
        ...

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """Return a conversation with its turns."""
        ...

    async def delete_conversation(self, conversation_id: str) -> tuple[int, int]:
        """Remove a conversation; return how many turns and receipts went."""
        ...

    async def get_receipt(self, receipt_id: str) -> Receipt:
        """Return a receipt with its texts under the caller's rights of today."""
        ...

    async def replay(self, receipt_id: str) -> Replay:
        """Ask again as the receipt says."""
        ...


class Generation(Protocol):
    """Serves models."""

    async def models(self) -> Sequence[Model]:
        """Return the base model, then its adapters."""
        ...

    def complete(self, model: str, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Completion, None]:
        """Yield the continuation of a raw prompt; closing the iterator ends the work."""
        ...

    async def tokenize(self, model: str, texts: Sequence[str], *, conversation: Sequence[Message] = ()) -> Tokens:
        """Return the token ids of texts."""
        ...

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        ...


class Probe(Protocol):
    """Asks whether the rooms can do their duty."""

    async def rooms(self) -> Mapping[str, bool]:
        """Return the answer of each room."""
        ...
