"""What rows came from, counted; and rows without those whose sources went."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.finetuning.domain.jobs import SourceCount
from services.finetuning.domain.row_reading import NumberedRow
from services.finetuning.domain.rows import DocumentSource, FeedbackSource, FileSource

__all__ = ["Withdrawn", "counted", "kept_rows"]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What rows may no longer come from."""

    documents: frozenset[str] = frozenset()
    judgements: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.documents or self.judgements)

    def takes(self, row: NumberedRow) -> bool:
        """Return whether a row came from something withdrawn."""
        return any(
            (isinstance(source, DocumentSource) and source.document in self.documents)
            or (isinstance(source, FeedbackSource) and source.feedback in self.judgements)
            for source in row.row.origin.sources
        )


def counted(rows: Iterable[NumberedRow], *, file_id: str) -> tuple[SourceCount, ...]:
    """Return what rows came from with the number of rows of each; those that say nothing came from their file."""
    counts: dict[tuple[str, str, int], int] = {}
    for numbered in rows:
        keys = set()
        for source in numbered.row.origin.sources:
            match source:
                case DocumentSource():
                    keys.add(("document", source.document, source.version))
                case FeedbackSource():
                    keys.add(("feedback", source.feedback, 0))
                case FileSource():
                    keys.add(("file", source.file, 0))
        for key in keys or {("file", file_id, 0)}:
            counts[key] = counts.get(key, 0) + 1
    return tuple(SourceCount(kind, source, version, count) for (kind, source, version), count in sorted(counts.items()))


def kept_rows(rows: Sequence[NumberedRow], withdrawn: Withdrawn) -> tuple[list[NumberedRow], list[int]]:
    """Return the rows that may still be learned from, and the lines of those that may not."""
    kept = [row for row in rows if not withdrawn.takes(row)]
    return kept, [row.line for row in rows if withdrawn.takes(row)]
