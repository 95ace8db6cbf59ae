"""How chunks lie in LanceDB: the schema, rows in and out, and filters as SQL text."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from services.retrieval.domain import (
    ChunkRow,
    Comparison,
    Hit,
    Locator,
    Scope,
    attribute_term,
    folded,
)

__all__ = ["HIT_COLUMNS", "hits_of", "quoted", "rows_of", "schema", "table_of", "where"]

HIT_COLUMNS: Final = (
    "chunk_id", "collection_id", "document_id", "version", "access_revision", "text", "start", "end",
    "page_first", "page_last", "heading_path", "part", "vector",
)  # fmt: skip


def schema(dimension: int) -> pa.Schema:
    """Return the table's schema."""
    return pa.schema(
        [
            ("chunk_id", pa.string()),
            ("tenant", pa.string()),
            ("collection_id", pa.string()),
            ("document_id", pa.string()),
            ("version", pa.int32()),
            ("live", pa.bool_()),
            ("principals", pa.list_(pa.string())),
            ("access_revision", pa.int64()),
            ("attribute_terms", pa.list_(pa.string())),
            ("text", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("page_first", pa.int32()),
            ("page_last", pa.int32()),
            ("heading_path", pa.list_(pa.string())),
            ("part", pa.string()),
            ("search_text", pa.string()),
            ("vector", pa.list_(pa.float32(), dimension)),
        ]
    )


def table_of(rows: Sequence[ChunkRow], dimension: int) -> pa.Table:
    """Return rows as an Arrow table."""
    flat = [
        {
            "chunk_id": row.chunk_id,
            "tenant": row.tenant,
            "collection_id": row.collection_id,
            "document_id": row.document_id,
            "version": row.version,
            "live": row.live,
            "principals": list(row.principals),
            "access_revision": row.access_revision,
            "attribute_terms": list(row.attribute_terms),
            "text": row.text,
            "start": row.start,
            "end": row.end,
            "page_first": row.locator.page_first,
            "page_last": row.locator.page_last,
            "heading_path": list(row.locator.heading_path),
            "part": row.locator.part,
            "search_text": row.search_text,
            "vector": row.vector,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(flat, schema=schema(dimension))


def rows_of(table: pa.Table | pa.RecordBatch) -> list[ChunkRow]:
    """Return the rows of an Arrow table of the same schema."""
    if not table.num_rows:
        return []
    vectors = np.stack(table.column("vector").to_numpy(zero_copy_only=False)).astype(np.float32)
    return [
        ChunkRow(
            chunk_id=row["chunk_id"],
            tenant=row["tenant"],
            collection_id=row["collection_id"],
            document_id=row["document_id"],
            version=row["version"],
            live=row["live"],
            principals=tuple(row["principals"]),
            access_revision=row["access_revision"],
            attribute_terms=tuple(row["attribute_terms"]),
            text=row["text"],
            start=row["start"],
            end=row["end"],
            locator=Locator(row["page_first"], row["page_last"], tuple(row["heading_path"]), row["part"]),
            search_text=row["search_text"],
            vector=vector,
        )
        for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True)
    ]


def hits_of(table: pa.Table, scores: Iterable[float]) -> list[Hit]:
    """Return the rows of a result, with their scores."""
    if not table.num_rows:
        return []
    vectors = np.stack(table.column("vector").to_numpy(zero_copy_only=False)).astype(np.float32)
    rows = table.drop_columns(["vector"]).to_pylist()
    return [
        Hit(
            chunk_id=row["chunk_id"],
            collection_id=row["collection_id"],
            document_id=row["document_id"],
            version=row["version"],
            access_revision=row["access_revision"],
            text=row["text"],
            start=row["start"],
            end=row["end"],
            locator=Locator(row["page_first"], row["page_last"], tuple(row["heading_path"]), row["part"]),
            vector=vector,
            score=score,
        )
        for row, vector, score in zip(rows, vectors, scores, strict=True)
    ]


def quoted(value: str) -> str:
    """Return a SQL string literal."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'"


def where(scope: Scope) -> str:
    """Return the condition that every hit of a scope meets; the filter's part may let more through, never less."""
    parts = [
        f"tenant = {quoted(scope.tenant)}",
        "live = true",
        f"collection_id IN ({', '.join(quoted(name) for name in scope.collection_ids)})",
    ]
    if scope.principals is not None:
        parts.append(_has_any("principals", scope.principals))
    if scope.document_id is not None:
        parts.append(f"document_id = {quoted(scope.document_id)}")
    condition = folded(scope.filter, comparison=_comparison, every=_joined(" AND "), some=_joined(" OR "))
    if condition is not None:
        parts.append(condition)
    return " AND ".join(parts)


def _has_any(column: str, values: Sequence[str]) -> str:
    if not values:
        return "false"
    return f"array_has_any({column}, make_array({', '.join(quoted(value) for value in values)}))"


def _joined(word: str) -> Callable[[list[str]], str]:
    return lambda parts: f"({word.join(parts)})"


def _comparison(comparison: Comparison) -> str | None:
    values: Any = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    held = _has_any("attribute_terms", [attribute_term(comparison.key, value) for value in values])
    match comparison.type:
        case "eq" | "in":
            return held
        case "ne" | "nin":
            return f"NOT {held}"
        case _:
            return None
