"""Facts and chunks in the language that rooms share (brain.events.v1)."""

from typing import Final

from brain.events.v1 import chunks_pb2, document_pb2
from brain.types.v1 import locator_pb2
from services.ingestion.domain.documents import Document, Version, attributes_json
from services.ingestion.domain.facts import AccessChanged, AttributesChanged, Chunked, Deleted, Fact
from services.ingestion.domain.text import Locator, ParsedDocument

__all__ = ["DOCUMENT_TOPIC", "ProtobufChunks", "encoded"]

DOCUMENT_TOPIC: Final = "brain.document.v1"


def encoded(fact: Fact) -> tuple[str, bytes]:
    """Return the type and the payload of the event that tells a fact."""
    match fact:
        case Chunked():
            event = document_pb2.DocumentEvent(
                chunked=document_pb2.DocumentChunked(
                    document_id=fact.document_id,
                    collection_id=fact.collection_id,
                    version=fact.version,
                    file_id=fact.file_id,
                    chunks_blob_key=fact.chunks_key,
                    text_blob_key=fact.text_key,
                    chunk_count=fact.chunk_count,
                    principals=fact.principals,
                    access_revision=fact.access_revision,
                )
            )
        case Deleted():
            event = document_pb2.DocumentEvent(
                deleted=document_pb2.DocumentDeleted(document_id=fact.document_id, collection_id=fact.collection_id)
            )
        case AccessChanged():
            event = document_pb2.DocumentEvent(
                access_changed=document_pb2.DocumentAccessChanged(
                    document_id=fact.document_id,
                    collection_id=fact.collection_id,
                    principals=fact.principals,
                    access_revision=fact.access_revision,
                )
            )
        case AttributesChanged():
            event = document_pb2.DocumentEvent(
                attributes_changed=document_pb2.DocumentAttributesChanged(
                    document_id=fact.document_id,
                    collection_id=fact.collection_id,
                    attributes_blob_key=fact.attributes_key,
                    attributes_revision=fact.attributes_revision,
                )
            )
    return str(event.WhichOneof("fact")), event.SerializeToString()


class ProtobufChunks:
    """Chunks as a serialised ChunkSet."""

    def chunks(self, document: Document, version: Version, parsed: ParsedDocument) -> bytes:
        """Return the chunks of a version as the blob that a Chunked fact points to."""
        return chunks_pb2.ChunkSet(
            document_id=version.document_id,
            version=version.number,
            title=parsed.title,
            filename=version.filename,
            attributes_json=attributes_json(document.attributes),
            chunks=[
                chunks_pb2.Chunk(
                    index=chunk.index,
                    text=parsed.text[chunk.start : chunk.end],
                    start=chunk.start,
                    end=chunk.end,
                    locator=_locator(chunk.locator),
                    passage_start=chunk.passage_start,
                    passage_end=chunk.passage_end,
                )
                for chunk in parsed.chunks
            ],
        ).SerializeToString()


def _locator(locator: Locator) -> locator_pb2.Locator:
    return locator_pb2.Locator(
        page_first=locator.page_first,
        page_last=locator.page_last,
        heading_path=locator.heading_path,
        part=locator.part,
    )
