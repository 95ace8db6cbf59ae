"""Chunks with their vectors as a Parquet file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from services.chassis.errors import InvalidInput
from services.retrieval.backends.lancedb_rows import rows_of, schema, table_of
from services.retrieval.domain import ChunkRow

__all__ = ["RowFile", "read_rows"]

# Rows that are read at a time: some MB.
_ROWS: Final = 1_000


class RowFile:
    """A file that rows are written to.

    Args:
        path: The file.
        dimension: Components of a vector.
    """

    def __init__(self, path: Path, *, dimension: int) -> None:
        self._dimension = dimension
        self._writer = pq.ParquetWriter(path, schema(dimension), compression="zstd")

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete it."""
        self._writer.close()

    def write(self, rows: Sequence[ChunkRow]) -> None:
        """Append rows."""
        if rows:
            self._writer.write_table(table_of(rows, self._dimension))


def read_rows(path: Path, *, dimension: int) -> Iterator[list[ChunkRow]]:
    """Yield the rows of a file in batches.

    Raises:
        InvalidInput: It cannot be read, or holds other columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema(dimension)):
                raise InvalidInput(f"{path} does not hold chunks with vectors of {dimension} components.")
            for batch in file.iter_batches(batch_size=_ROWS):
                yield rows_of(batch)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read.", private=repr(error)) from error
