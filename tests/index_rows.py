"""Rows of an index, vectors and scopes, as tests of its back ends write and ask them."""

from typing import Any

import numpy as np

from services.retrieval.domain import ChunkRow, Locator, Scope, attribute_terms, chunk_id

DIMENSION = 8


def vector(*parts: float) -> Any:
    made = np.zeros(DIMENSION, np.float32)
    made[: len(parts)] = parts
    return made / np.linalg.norm(made)


def row(document: str, text: str, near: Any, **about: Any) -> ChunkRow:
    given: dict[str, Any] = {
        "tenant": "acme",
        "collection_id": "vs_1",
        "version": 1,
        "live": True,
        "principals": ("group:everyone",),
        "access_revision": 1,
        "attributes": {},
        "at": 0,
    } | about
    attributes, at = given.pop("attributes"), given.pop("at")
    return ChunkRow(
        chunk_id=chunk_id(given["tenant"], document, given["version"], at),
        document_id=document,
        attribute_terms=attribute_terms(attributes),
        text=text,
        start=3,
        end=3 + len(text),
        locator=Locator(2, 3, ("One", "Two"), "Sheet"),
        search_text=text,
        vector=near,
        **given,
    )


def scope(**about: Any) -> Scope:
    given: dict[str, Any] = {"tenant": "acme", "collection_ids": ("vs_1",), "principals": ("group:everyone",)}
    return Scope(**(given | about))
