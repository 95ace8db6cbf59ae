"""Events that reach the room: what the index says (brain.index.v1)."""

from typing import Final

from google.protobuf.message import DecodeError

from brain.events.v1 import index_pb2
from services.chassis.errors import BrainError, InvalidInput
from services.chassis.events.log import Envelope
from services.ingestion.telemetry import PURGE_SPAN, spans
from services.ingestion.usecases.deleting import Deleting
from services.ingestion.usecases.indexing import NoteIndex

__all__ = ["GROUP", "INDEX_TOPIC", "IndexEvents"]

INDEX_TOPIC: Final = "brain.index.v1"
GROUP: Final = "ingestion"


class IndexEvents:
    """Hands facts from the index to use cases; the tenant is the envelope's.

    Args:
        note: Brings versions to their end.
        deleting: Ends deletions.
    """

    def __init__(self, *, note: NoteIndex, deleting: Deleting) -> None:
        self._note = note
        self._deleting = deleting

    async def handle(self, envelope: Envelope) -> None:
        """Do the work of one event.

        Raises:
            InvalidInput: The payload is not an IndexEvent, or of a kind that this version does not know.
        """
        try:
            event = index_pb2.IndexEvent.FromString(envelope.payload)
        except DecodeError as error:
            raise InvalidInput("The payload is not an IndexEvent.", private=repr(error)) from error
        match event.WhichOneof("fact"):
            case "version_indexed":
                fact = event.version_indexed
                await self._note.indexed(envelope.tenant, fact.document_id, fact.version)
            case "version_rejected":
                refused = event.version_rejected
                await self._note.rejected(envelope.tenant, refused.document_id, refused.version, refused.reason)
            case "document_removed":
                gone = event.document_removed
                with spans.start_as_current_span(PURGE_SPAN) as span:
                    span.set_attribute("brain.document_id", gone.document_id)
                    await self._deleting.finish(
                        envelope.tenant,
                        gone.document_id,
                        removed=gone.removed_count,
                        remaining=gone.remaining_count,
                    )
            case _:
                raise InvalidInput(f"The event {envelope.type!r} is not known.")

    async def on_dead(self, envelope: Envelope, error: BrainError) -> None:
        """Bring the document that an unhandleable event was about to its end."""
        await self._note.undeliverable(
            envelope.tenant, envelope.key, f"What the index said could not be understood: {error.message}"
        )
