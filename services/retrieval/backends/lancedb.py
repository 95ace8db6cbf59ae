"""An index in LanceDB: one table of a folder."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, IvfFlat
from numpy.typing import NDArray

from services.chassis.errors import Conflict, NotFound, Unavailable
from services.retrieval.backends.lancedb_rows import HIT_COLUMNS, hits_of, quoted, rows_of, schema, table_of, where
from services.retrieval.domain import ChunkRow, Hit, Scope

__all__ = ["TABLE", "LanceIndex"]

# Name of an installation's first table.
TABLE: Final = "chunks"
# Rows that a search reads besides the search structures before they are folded in.
_MAX_LOOSE_ROWS: Final = 2_000
# Or at the latest so long after they were written.
_MAX_LOOSE_S: Final = 30.0
# Old states of the files are kept for readers in the middle of a query, and no longer.
_KEEP_OLD: Final = timedelta(minutes=10)
# Partitions searched of a vector index: recall above .95 at the square root of the rows as their number.
_PROBES: Final = 24
# Rows handed out at a time where all of a tenant are: some MB.
_SCANNED: Final = 1_000


class LanceIndex:
    """Back end of the index port.

    Args:
        folder: Where the files lie.
        dimension: Components of a vector.
        ann_rows: Rows above which a vector index is kept.
        table: Name of the table.
    """

    def __init__(self, folder: str, *, dimension: int, ann_rows: int, table: str = TABLE) -> None:
        self._folder = folder
        self._name = table
        self._dimension = dimension
        self._ann_rows = ann_rows
        self._database: Any = None
        self._table: Any = None
        self._writing = asyncio.Lock()
        self._loose_rows = 0
        self._loose_since: float | None = None
        # When the states before the last folding may go; the first time at once, for those that an earlier run left.
        self._sweep_at: float | None = 0.0

    async def open(self, *, create: bool = True) -> None:
        """Open the table.

        Args:
            create: Whether it is made when there is none.

        Raises:
            NotFound: There is none, and it is not to be made.
            Conflict: The folder holds something else.
            Unavailable: The folder cannot be used.
        """
        with _translated():
            # Consistent at once: another process may be the writer.
            self._database = await lancedb.connect_async(self._folder, read_consistency_interval=timedelta(0))
            if not create and not await self._is_there():
                self._database.close()
                raise NotFound(f"There is no index {self._name}.")
            try:
                self._table = await self._database.create_table(
                    self._name, schema=schema(self._dimension), exist_ok=True
                )
            except ValueError as error:
                raise Conflict(
                    f"index_url: {self._folder} holds vectors of another model or rows of another release; "
                    "choose another folder and index again.",
                    private=repr(error),
                ) from error
            if not any("search_text" in index.columns for index in await self._table.list_indices()):
                # The analyser has done everything: here only white space splits.
                tokens = FTS(
                    base_tokenizer="whitespace",
                    stem=False,
                    remove_stop_words=False,
                    lower_case=False,
                    ascii_folding=False,
                    with_position=False,
                    max_token_length=None,
                )
                await self._table.create_index("search_text", config=tokens)

    async def close(self) -> None:
        """Let go of the files."""
        if self._table is not None:
            self._table.close()
            self._database.close()

    async def drop(self) -> None:
        """Remove the table with its files."""
        with _translated():
            if await self._is_there():
                await self._database.drop_table(self._name)
            if await self._is_there():
                raise Unavailable("The index is still there.", private=self._name, retry_after_s=1.0)

    async def _is_there(self) -> bool:
        return self._name in (await self._database.list_tables()).tables

    async def dense(self, scope: Scope, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        """Return the nearest chunks."""
        if not scope.collection_ids:
            return []
        with _translated():
            query = self._table.query().nearest_to(vector).distance_type("cosine").nprobes(_PROBES)
            found = await query.where(where(scope)).limit(limit).select([*HIT_COLUMNS, "_distance"]).to_arrow()
        return hits_of(found, (1.0 - distance for distance in found.column("_distance").to_pylist()))

    async def keyword(self, scope: Scope, search_text: str, *, limit: int) -> list[Hit]:
        """Return the chunks that share tokens."""
        if not scope.collection_ids or not search_text:
            return []
        with _translated():
            query = self._table.query().nearest_to_text(search_text, columns="search_text")
            found = await query.where(where(scope)).limit(limit).select([*HIT_COLUMNS, "_score"]).to_arrow()
        found = found.sort_by([("_score", "descending"), ("chunk_id", "ascending")])
        return hits_of(found, found.column("_score").to_pylist())

    async def write(self, rows: Sequence[ChunkRow]) -> None:
        """Write chunks in one commit."""
        if rows:
            await self._merge(table_of(rows, self._dimension))

    async def counts(self, tenant: str, document_ids: Sequence[str]) -> dict[tuple[str, int], int]:
        """Return the number of chunks by document and version."""
        if not document_ids:
            return {}
        with _translated():
            query = self._table.query().where(_of(tenant, document_ids)).select(["document_id", "version"])
            found = await query.to_arrow()
        counted = found.group_by(["document_id", "version"]).aggregate([([], "count_all")]).to_pylist()
        return {(row["document_id"], row["version"]): row["count_all"] for row in counted}

    async def clear(self, tenant: str, keep: Mapping[str, int | None]) -> None:
        """Remove chunks in one commit."""
        if not keep:
            return
        parts = [
            f"document_id = {quoted(document)}" + ("" if version is None else f" AND version <> {int(version)}")
            for document, version in keep.items()
        ]
        condition = " OR ".join(f"({part})" for part in parts)
        async with self._writing:
            with _translated():
                await self._table.delete(f"tenant = {quoted(tenant)} AND ({condition})")
            self._mark(len(keep))

    async def set_access(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> None:
        """Rewrite the document's chunks with other principals."""
        await self._rewrite(tenant, document_id, {"principals": list(principals), "access_revision": revision})

    async def set_attribute_terms(self, tenant: str, document_id: str, terms: Sequence[str]) -> None:
        """Rewrite the document's chunks with other attribute terms."""
        await self._rewrite(tenant, document_id, {"attribute_terms": list(terms)})

    async def tokens(self, tenant: str, document_id: str, version: int) -> frozenset[str]:
        """Return every token of a version."""
        condition = f"{_of(tenant, [document_id])} AND version = {int(version)}"
        with _translated():
            found = await self._table.query().where(condition).select(["search_text"]).to_arrow()
        return frozenset(token for text in found.column("search_text").to_pylist() for token in text.split())

    async def scan(self, tenant: str) -> AsyncIterator[Sequence[ChunkRow]]:
        """Yield every chunk of a tenant in batches."""
        with _translated():
            query = self._table.query().where(f"tenant = {quoted(tenant)}")
            batches = await query.to_batches(max_batch_length=_SCANNED)
        while True:
            with _translated():
                batch = await anext(batches, None)
            if batch is None:
                return
            if rows := rows_of(batch):
                yield rows

    async def maintain(self) -> None:
        """Fold loose rows in when there are many or they are old; remove old files when nobody reads them any more."""
        now = time.monotonic()
        fold = self._loose_since is not None and (
            self._loose_rows >= _MAX_LOOSE_ROWS or now - self._loose_since >= _MAX_LOOSE_S
        )
        if not fold and (self._sweep_at is None or now < self._sweep_at):
            return
        async with self._writing:
            with _translated():
                await self._table.optimize(cleanup_older_than=_KEEP_OLD)
                rows = await self._table.count_rows()
                indexed = any("vector" in index.columns for index in await self._table.list_indices())
                if rows >= self._ann_rows and not indexed:
                    config = IvfFlat(distance_type="cosine", num_partitions=max(1, int(rows**0.5)))
                    await self._table.create_index("vector", config=config)
            self._sweep_at = None if self._loose_since is None else time.monotonic() + _KEEP_OLD.total_seconds()
            self._loose_rows, self._loose_since = 0, None

    async def _rewrite(self, tenant: str, document_id: str, values: Mapping[str, object]) -> None:
        with _translated():
            found = await self._table.query().where(_of(tenant, [document_id])).to_arrow()
        if not found.num_rows:
            return
        for name, value in values.items():
            kind = found.schema.field(name)
            column = pa.array([value] * found.num_rows, type=kind.type)
            found = found.set_column(found.schema.get_field_index(name), kind, column)
        await self._merge(found)

    async def _merge(self, table: pa.Table) -> None:
        async with self._writing:
            with _translated():
                merge = self._table.merge_insert("chunk_id").when_matched_update_all().when_not_matched_insert_all()
                await merge.execute(table)
            self._mark(table.num_rows)

    def _mark(self, rows: int) -> None:
        self._loose_rows += rows
        self._loose_since = self._loose_since or time.monotonic()


def _of(tenant: str, document_ids: Sequence[str]) -> str:
    return f"tenant = {quoted(tenant)} AND document_id IN ({', '.join(quoted(name) for name in document_ids)})"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise Unavailable("The index is not available.", private=repr(error), retry_after_s=1.0) from error
