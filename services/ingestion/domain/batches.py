"""Sets of files that were added to a collection together."""

from dataclasses import dataclass
from typing import Final

from services.chassis.errors import InvalidInput
from services.ingestion.domain.collections import CollectionUse

__all__ = ["FileBatch", "check_batch_size"]

_MAX_FILES: Final = 2_000


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A batch. `use` counts its documents by state."""

    batch_id: str
    tenant: str
    collection_id: str
    owner: str
    created_at: float
    cancelled: bool
    file_ids: tuple[str, ...]
    use: CollectionUse


def check_batch_size(count: int) -> None:
    """Refuse batches of no or too many files.

    Raises:
        InvalidInput: Not 1 to 2,000.
    """
    if not 1 <= count <= _MAX_FILES:
        raise InvalidInput(f"files: {count} files are not 1 to {_MAX_FILES}.", param="files")
