"""Chunks of a version out of the blob store, in the language that rooms share (brain.events.v1)."""

import orjson
from google.protobuf.message import DecodeError

from brain.events.v1.chunks_pb2 import Chunk, ChunkSet
from services.chassis.errors import InvalidInput, NotFound
from services.retrieval.domain import ChunkContent, Locator, Piece, indexed_text
from services.retrieval.domain.words import Attributes, as_attributes
from services.retrieval.ports import Texts

__all__ = ["ChunkBlobs"]


class ChunkBlobs:
    """Reads the chunk sets that ingestion has written.

    Args:
        blobs: Where they and the stored texts lie.
    """

    def __init__(self, blobs: Texts) -> None:
        self._blobs = blobs

    async def read(self, key: str, *, text_key: str) -> ChunkContent:
        """Return the chunks under `key`.

        Raises:
            InvalidInput: They are not there or cannot be read.
        """
        chunks = ChunkSet()
        try:
            chunks.ParseFromString(await self._blob(key))
        except DecodeError as error:
            raise InvalidInput("The chunks of the document cannot be read.", private=repr(error)) from error
        text = ""
        if any(_is_window(chunk) for chunk in chunks.chunks):
            text = (await self._blob(text_key)).decode()
        return ChunkContent(
            filename=chunks.filename,
            title=chunks.title,
            attributes=_attributes(chunks.attributes_json.encode() or b"{}"),
            pieces=tuple(_piece(chunk, chunks.title, text) for chunk in chunks.chunks),
        )

    async def _blob(self, key: str) -> bytes:
        try:
            return await self._blobs.get(key)
        except NotFound as error:
            raise InvalidInput("What the event points to is not in the blob store.", private=key) from error


def _attributes(data: bytes) -> Attributes:
    try:
        return as_attributes(orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise InvalidInput("The attributes of the document are not JSON.", private=repr(error)) from error


def _is_window(chunk: Chunk) -> bool:
    """Return whether a longer passage than the chunk is handed out."""
    return chunk.passage_end > chunk.passage_start and (chunk.passage_start, chunk.passage_end) != (
        chunk.start,
        chunk.end,
    )


def _piece(chunk: Chunk, title: str, text: str) -> Piece:
    locator = Locator(
        chunk.locator.page_first, chunk.locator.page_last, tuple(chunk.locator.heading_path), chunk.locator.part
    )
    wide = _is_window(chunk)
    start, end = (chunk.passage_start, chunk.passage_end) if wide else (chunk.start, chunk.end)
    return Piece(
        index=chunk.index,
        indexed=indexed_text(title, locator.heading_path, chunk.text),
        text=text[start:end] if wide else chunk.text,
        start=start,
        end=end,
        locator=locator,
    )
