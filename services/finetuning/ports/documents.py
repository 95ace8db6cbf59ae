"""Documents of the ingestion room, as far as the caller may read them."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from services.finetuning.domain.documents import DocumentText, SourceDocument


class Documents(Protocol):
    """Documents under the caller's rights."""

    def of_collection(self, collection_id: str) -> AsyncIterator[SourceDocument]:
        """Yield the searchable documents of a collection that the caller may read, oldest first.

        Raises:
            NotFound: There is no collection that the caller may know of.
        """

    async def text(self, document: SourceDocument) -> DocumentText | None:
        """Return the stored text of a version; None when it is gone meanwhile or may not be read any more."""

    async def readable(self, document_ids: Collection[str]) -> frozenset[str]:
        """Return those that are there and that the caller may read."""
