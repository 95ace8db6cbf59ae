"""How chunks lie in Weaviate: the schema, rows in and out, names of tenants, and filters."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
from weaviate.classes.config import DataType, Property, Tokenization
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter as Where
from weaviate.classes.query import FilterReturn

from services.retrieval.domain import ChunkRow, Comparison, Hit, Locator, Scope, attribute_term, folded

__all__ = [
    "HIT_PROPERTIES",
    "ROW_PROPERTIES",
    "SLOTS",
    "batches_of",
    "hits_of",
    "object_of",
    "of_documents",
    "of_places",
    "of_slots",
    "place",
    "place_of",
    "principals_of",
    "properties",
    "row_of",
    "tenant_name",
    "terms_of",
    "where",
]

HIT_PROPERTIES: Final = (
    "collection_id", "document_id", "version", "access_revision", "text", "start", "end", "page_first", "page_last",
    "heading_path", "part",
)  # fmt: skip

ROW_PROPERTIES: Final = (*HIT_PROPERTIES, "live", "principals", "attribute_terms", "search_text")

# Each chunk has one of so many slots, drawn from its id: ranges of slots are pages of a document of any size.
SLOTS: Final = 1 << 16

# Objects of one batch, and characters in them: a message holds 10 MB or more.
_BATCH_ROWS: Final = 500
_BATCH_CHARACTERS: Final = 2_000_000

# Names that Weaviate takes as they are, short enough for a prefix; small letters, since they become names of folders.
_PLAIN_TENANT: Final = re.compile(r"[a-z0-9_-]{1,62}")


def tenant_name(tenant: str) -> str:
    """Return Weaviate's name for a tenant: itself where Weaviate takes it, else its digest; two never share one."""
    if _PLAIN_TENANT.fullmatch(tenant):
        return f"t-{tenant}"
    digest = base64.b32encode(hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).digest())
    return "h-" + digest.decode("ascii").rstrip("=").lower()


def properties() -> list[Property]:
    """Return the schema's properties. Only `search_text` is searched; what no filter names is stored and no more."""
    return [
        _exact_property("collection_id", DataType.TEXT),
        _exact_property("document_id", DataType.TEXT),
        _exact_property("place", DataType.TEXT),
        _exact_property("principals", DataType.TEXT_ARRAY),
        _exact_property("attribute_terms", DataType.TEXT_ARRAY),
        Property(name="live", data_type=DataType.BOOL, index_filterable=True),
        Property(name="slot", data_type=DataType.INT, index_filterable=False, index_range_filters=True),
        # The analyser has done everything: here only white space splits.
        Property(
            name="search_text",
            data_type=DataType.TEXT,
            tokenization=Tokenization.WHITESPACE,
            index_searchable=True,
            index_filterable=False,
        ),
        *(_stored(name, DataType.TEXT) for name in ("text", "part")),
        _stored("heading_path", DataType.TEXT_ARRAY),
        *(
            _stored(name, DataType.INT)
            for name in ("version", "access_revision", "start", "end", "page_first", "page_last")
        ),
    ]


def _exact_property(name: str, data_type: DataType) -> Property:
    return Property(
        name=name,
        data_type=data_type,
        tokenization=Tokenization.FIELD,
        index_filterable=True,
        index_searchable=False,
    )


def _stored(name: str, data_type: DataType) -> Property:
    searchable = False if data_type in {DataType.TEXT, DataType.TEXT_ARRAY} else None
    return Property(name=name, data_type=data_type, index_filterable=False, index_searchable=searchable)


def object_of(row: ChunkRow) -> DataObject[dict[str, Any], None]:
    """Return a row as an object; its id is the chunk's."""
    return DataObject(
        uuid=row.chunk_id,
        properties={
            "collection_id": _exact(row.collection_id),
            "document_id": _exact(row.document_id),
            "place": place(row.document_id, row.version),
            "principals": principals_of(row.principals),
            "attribute_terms": terms_of(row.attribute_terms),
            "live": row.live,
            "slot": UUID(row.chunk_id).int % SLOTS,
            "search_text": row.search_text,
            "text": row.text,
            "part": row.locator.part,
            "heading_path": list(row.locator.heading_path),
            "version": row.version,
            "access_revision": row.access_revision,
            "start": row.start,
            "end": row.end,
            "page_first": row.locator.page_first,
            "page_last": row.locator.page_last,
        },
        vector=row.vector.tolist(),
    )


def row_of(found: Any, tenant: str) -> ChunkRow:
    """Return an object with every property as the row that it was made of."""
    held = found.properties
    return ChunkRow(
        chunk_id=str(found.uuid),
        tenant=tenant,
        collection_id=_inside(held["collection_id"]),
        document_id=_inside(held["document_id"]),
        version=held["version"],
        live=held["live"],
        # Empty lists do not come back.
        principals=tuple(_inside(principal) for principal in held["principals"] or ()),
        access_revision=held["access_revision"],
        attribute_terms=tuple(_inside(term) for term in held["attribute_terms"] or ()),
        text=held["text"],
        start=held["start"],
        end=held["end"],
        locator=Locator(held["page_first"], held["page_last"], tuple(held["heading_path"] or ()), held["part"]),
        search_text=held["search_text"],
        vector=np.asarray(found.vector["default"], dtype=np.float32),
    )


def hits_of(objects: Iterable[Any], scores: Iterable[float]) -> list[Hit]:
    """Return objects of a result with their scores, best first; ties by chunk id."""
    hits = [
        Hit(
            chunk_id=str(found.uuid),
            collection_id=_inside(found.properties["collection_id"]),
            document_id=_inside(found.properties["document_id"]),
            version=found.properties["version"],
            access_revision=found.properties["access_revision"],
            text=found.properties["text"],
            start=found.properties["start"],
            end=found.properties["end"],
            locator=Locator(
                found.properties["page_first"],
                found.properties["page_last"],
                # An empty list does not come back.
                tuple(found.properties["heading_path"] or ()),
                found.properties["part"],
            ),
            vector=np.asarray(found.vector["default"], dtype=np.float32),
            score=score,
        )
        for found, score in zip(objects, scores, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))


def _exact(value: str) -> str:
    """Return a text as it is kept where it must match as a whole.

    Weaviate trims white space at the ends of what it compares and does not index empty texts: something at both ends
    keeps them.
    """
    return f"|{value}|"


def _inside(value: str) -> str:
    return value[1:-1]


def principals_of(principals: Sequence[str]) -> list[str]:
    """Return principals as they are kept."""
    return [_exact(principal) for principal in principals]


def terms_of(terms: Sequence[str]) -> list[str]:
    """Return attribute terms as they are kept."""
    return [_exact(term) for term in terms]


def place(document_id: str, version: int) -> str:
    """Return one text for a document's version: Weaviate groups by one property only."""
    return _exact(f"{int(version)}:{document_id}")


def place_of(value: str) -> tuple[str, int]:
    """Return the document and version of a place."""
    version, _, document_id = _inside(value).partition(":")
    return document_id, int(version)


def of_documents(document_ids: Sequence[str]) -> FilterReturn:
    """Return the filter for the chunks of documents, at least one."""
    return Where.by_property("document_id").contains_any([_exact(name) for name in document_ids])


def of_places(places: Sequence[tuple[str, int]], *, wanted: bool) -> FilterReturn:
    """Return the filter for the chunks of (document, version), at least one, or for all others."""
    named, values = Where.by_property("place"), [place(*one) for one in places]
    return named.contains_any(values) if wanted else named.contains_none(values)


def of_slots(first: int, end: int) -> FilterReturn:
    """Return the filter for the slots from `first` up to, not including, `end`."""
    return Where.by_property("slot").greater_or_equal(first) & Where.by_property("slot").less_than(end)


def where(scope: Scope) -> FilterReturn | None:
    """Return the filter that every hit of a scope meets, None where nothing can.

    The part of the scope's own filter may let more through, never less.
    """
    if not scope.collection_ids or (scope.principals is not None and not scope.principals):
        return None
    parts = [
        Where.by_property("live").equal(val=True),
        Where.by_property("collection_id").contains_any([_exact(name) for name in scope.collection_ids]),
    ]
    if scope.principals is not None:
        parts.append(Where.by_property("principals").contains_any(principals_of(scope.principals)))
    if scope.document_id is not None:
        parts.append(of_documents([scope.document_id]))
    condition = folded(scope.filter, comparison=_comparison, every=Where.all_of, some=Where.any_of)
    if condition is not None:
        parts.append(condition)
    return Where.all_of(parts)


def _comparison(comparison: Comparison) -> FilterReturn | None:
    values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    terms = terms_of([attribute_term(comparison.key, value) for value in values])
    held = Where.by_property("attribute_terms")
    match comparison.type:
        case "eq" | "in":
            return held.contains_any(terms)
        case "ne" | "nin":
            return held.contains_none(terms)
        case _:
            return None


def batches_of(rows: Sequence[ChunkRow]) -> Iterator[tuple[str, list[DataObject[dict[str, Any], None]]]]:
    """Yield the rows as batches of one tenant each."""
    by_tenant: dict[str, list[ChunkRow]] = {}
    for row in rows:
        by_tenant.setdefault(row.tenant, []).append(row)
    for tenant, own in by_tenant.items():
        batch: list[DataObject[dict[str, Any], None]] = []
        size = 0
        for row in own:
            listed = sum(len(one) for one in (*row.principals, *row.attribute_terms))
            characters = len(row.text) + len(row.search_text) + listed
            if batch and (len(batch) == _BATCH_ROWS or size + characters > _BATCH_CHARACTERS):
                yield tenant, batch
                batch, size = [], 0
            batch.append(object_of(row))
            size += characters
        if batch:
            yield tenant, batch
