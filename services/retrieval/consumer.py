"""Document events: read the blobs they point to, hand the facts to the use cases."""

from collections.abc import Sequence
from typing import Final

import orjson
import structlog
from google.protobuf.message import DecodeError

from brain.events.v1.document_pb2 import DocumentChunked, DocumentEvent
from services.chassis.errors import BrainError, InvalidInput, NotFound
from services.chassis.events.log import Envelope
from services.retrieval.domain import ChunkedVersion
from services.retrieval.domain.words import Attributes, as_attributes
from services.retrieval.ports import ChunkSets, Register, Texts
from services.retrieval.usecases import ChangeAccess, ChangeAttributes, IndexVersions, RemoveDocument

__all__ = ["DOCUMENT_TOPIC", "GROUP", "DocumentEvents"]

DOCUMENT_TOPIC: Final = "brain.document.v1"
GROUP: Final = "retrieval-indexer"

_log = structlog.get_logger()


class DocumentEvents:
    """Handles document events; each may come late, twice, or again after a crash.

    Args:
        blobs: Attributes.
        chunks: What versions were cut into.
        index_versions: Makes versions searchable.
        remove: Removes documents.
        change_access: Applies access lists.
        change_attributes: Applies attributes.
        register: Where rejections are announced.
    """

    def __init__(
        self,
        *,
        blobs: Texts,
        chunks: ChunkSets,
        index_versions: IndexVersions,
        remove: RemoveDocument,
        change_access: ChangeAccess,
        change_attributes: ChangeAttributes,
        register: Register,
    ) -> None:
        self._blobs = blobs
        self._chunks = chunks
        self._index_versions = index_versions
        self._remove = remove
        self._change_access = change_access
        self._change_attributes = change_attributes
        self._register = register

    async def handle(self, envelope: Envelope) -> None:
        """Do the work of one event."""
        await self.handle_batch([envelope])

    async def handle_batch(self, envelopes: Sequence[Envelope]) -> None:
        """Do the work of several events: neighbours that bring versions of different documents go in one write.

        Raises:
            InvalidInput: An event or a blob cannot be read, and never will be.
            Unavailable: Something the work needs is away.
        """
        waiting: dict[tuple[str, str], ChunkedVersion] = {}
        for envelope in envelopes:
            event = _event(envelope)
            fact = event.WhichOneof("fact")
            key = (envelope.tenant, envelope.key)
            if key in waiting or fact != "chunked":
                # Order matters within a document only, but a flush is cheap and order is plain.
                await self._index_versions.run(list(waiting.values()))
                waiting.clear()
            match fact:
                case "chunked":
                    waiting[key] = await self._version(envelope.tenant, event.chunked)
                case "deleted":
                    await self._remove.run(envelope.tenant, event.deleted.document_id)
                case "access_changed":
                    changed = event.access_changed
                    await self._change_access.run(
                        envelope.tenant, changed.document_id, list(changed.principals), changed.access_revision
                    )
                case "attributes_changed":
                    told = event.attributes_changed
                    attributes = await self._attributes(told.attributes_blob_key)
                    await self._change_attributes.run(
                        envelope.tenant, told.document_id, attributes, told.attributes_revision
                    )
                case _:
                    # A fact of a newer publisher, about something this room does not keep.
                    _log.warning("event_ignored", type=envelope.type, event_id=envelope.event_id)
        await self._index_versions.run(list(waiting.values()))

    async def on_dead(self, envelope: Envelope, error: BrainError) -> None:
        """Tell ingestion that a version will never be indexed, so that its document reaches a final state."""
        try:
            event = _event(envelope)
        except InvalidInput:
            return
        if event.WhichOneof("fact") == "chunked":
            chunked = event.chunked
            await self._register.reject(envelope.tenant, chunked.document_id, chunked.version, error.message)

    async def _version(self, tenant: str, chunked: DocumentChunked) -> ChunkedVersion:
        content = await self._chunks.read(chunked.chunks_blob_key, text_key=chunked.text_blob_key)
        if len(content.pieces) != chunked.chunk_count or not content.pieces:
            raise InvalidInput(
                f"The document has {len(content.pieces)} chunks where {chunked.chunk_count} were announced; "
                "at least one is needed."
            )
        return ChunkedVersion(
            tenant=tenant,
            document_id=chunked.document_id,
            collection_id=chunked.collection_id,
            version=chunked.version,
            file_id=chunked.file_id,
            filename=content.filename,
            title=content.title,
            text_blob_key=chunked.text_blob_key,
            chunks_blob_key=chunked.chunks_blob_key,
            attributes=content.attributes,
            principals=tuple(chunked.principals),
            access_revision=chunked.access_revision,
            pieces=content.pieces,
        )

    async def _attributes(self, key: str) -> Attributes:
        try:
            data = await self._blobs.get(key)
        except NotFound as error:
            raise InvalidInput("What the event points to is not in the blob store.", private=key) from error
        try:
            return as_attributes(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            raise InvalidInput("The attributes of the document are not JSON.", private=repr(error)) from error


def _event(envelope: Envelope) -> DocumentEvent:
    event = DocumentEvent()
    try:
        event.ParseFromString(envelope.payload)
    except DecodeError as error:
        raise InvalidInput("The event cannot be read.", private=repr(error)) from error
    return event
