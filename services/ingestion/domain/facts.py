"""What the room tells other rooms about documents."""

from dataclasses import dataclass

__all__ = ["AccessChanged", "AttributesChanged", "Chunked", "Deleted", "Fact"]


@dataclass(frozen=True, slots=True)
class Chunked:
    """A version was parsed and cut; it is to be indexed and made the active one."""

    document_id: str
    collection_id: str
    version: int
    file_id: str
    chunks_key: str
    text_key: str
    chunk_count: int
    principals: tuple[str, ...]
    access_revision: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A document with all its versions is to be removed from every store."""

    document_id: str
    collection_id: str


@dataclass(frozen=True, slots=True)
class AccessChanged:
    """Who may read a document changed."""

    document_id: str
    collection_id: str
    principals: tuple[str, ...]
    access_revision: int


@dataclass(frozen=True, slots=True)
class AttributesChanged:
    """The caller's attributes of a document changed."""

    document_id: str
    collection_id: str
    attributes_key: str
    attributes_revision: int


Fact = Chunked | Deleted | AccessChanged | AttributesChanged
