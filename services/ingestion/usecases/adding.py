"""New documents and new versions: of an upload, of a kept file, of many files at once."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.chassis.auth import Caller
from services.chassis.errors import Conflict, NotFound, PermissionDenied, TooLarge
from services.chassis.ids import new_id
from services.ingestion.domain.access import checked_principals, may_manage
from services.ingestion.domain.batches import FileBatch, check_batch_size
from services.ingestion.domain.collections import Collection, CollectionUse
from services.ingestion.domain.documents import (
    Attributes,
    Document,
    DocumentState,
    Version,
    checked_attributes,
    checked_key,
    is_unchanged,
)
from services.ingestion.domain.files import File, Purpose, clean_filename
from services.ingestion.domain.text import Chunking
from services.ingestion.ports import Blobs, Change, Ledger
from services.ingestion.telemetry import Metrics
from services.ingestion.usecases.access import SetAccess
from services.ingestion.usecases.attributes import put_attributes
from services.ingestion.usecases.lookup import collection_for, file_for
from services.ingestion.usecases.receiving import Intake

__all__ = ["Adding", "Wish", "WishedFile"]

# How often an upload tries again when others changed the same document meanwhile.
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller says about a document; None leaves it to the collection, or as it is.

    Attributes:
        collection_id: Where to put it.
        principals: Access list.
        attributes_json: Attributes as a JSON object; empty for none given.
        chunking: How to cut it.
    """

    collection_id: str
    principals: tuple[str, ...] | None = None
    attributes_json: str = ""
    chunking: Chunking | None = None


@dataclass(frozen=True, slots=True)
class WishedFile:
    """A kept file that is to become a document with others."""

    file_id: str
    attributes_json: str = ""
    chunking: Chunking | None = None


@dataclass(frozen=True, slots=True)
class _Terms:
    """A wish, checked."""

    caller: Caller
    collection: Collection
    principals: tuple[str, ...] | None
    attributes: Attributes | None
    chunking: Chunking | None


class Adding:
    """Makes documents.

    Args:
        ledger: Records.
        blobs: Bytes.
        intake: Takes uploads in.
        set_access: Changes the access list of a document that gets a new version and a new list.
        metrics: Where acknowledged bytes are counted.
        max_bytes: Largest document.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        intake: Intake,
        set_access: SetAccess,
        metrics: Metrics,
        max_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._intake = intake
        self._set_access = set_access
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._now = now

    async def upload(
        self, caller: Caller, wish: Wish, *, filename: str, key: str, parts: AsyncIterator[bytes]
    ) -> tuple[Document, bool]:
        """Keep an upload as a new document, or as a new version of the one that holds `key`.

        Returns the document, and whether the same bytes were there already.

        Raises:
            InvalidInput: The header is wrong.
            NotFound: No such collection.
            PermissionDenied: Somebody else's document holds the key.
            TooLarge: More bytes than a document may have.
        """
        terms = await self._checked(caller, wish)
        key = checked_key(key)
        name = clean_filename(filename)
        if key:
            self._may_replace(caller, await self._holder(terms, key))
        async with self._intake.receive(parts, filename=name, max_bytes=self._max_bytes) as received:
            file = received.file(caller, filename=name, purpose=Purpose.ASSISTANTS, now=self._now())
            for _ in range(_TRIES):
                await self._agree_access(terms, key or file.file_id)
                done = None
                # Another upload took the key, or changed the document, in the same moment: it is there for the next try.
                with contextlib.suppress(Conflict):
                    async with self._ledger.change() as change:
                        done = await self._put(change, terms, file, key or file.file_id)
                        if done is not None and not done[1]:
                            await self._intake.keep(change, replace(file, document_id=done[0].document_id), received)
                if done is not None:
                    self._metrics.received.inc(0 if done[1] else received.size_bytes)
                    return done
        raise Conflict(f"key: the document {key!r} is being changed by others; try again.", param="key")

    async def add_file(self, caller: Caller, wish: Wish, file_id: str) -> tuple[Document, bool]:
        """Make a document of a kept file; return it, and whether the collection held the file already.

        Raises:
            InvalidInput: The wish is wrong.
            NotFound: No such collection or file.
            TooLarge: The file is larger than a document may be.
        """
        terms = await self._checked(caller, wish)
        file = await self._document_file(self._ledger, caller, file_id)
        for _ in range(_TRIES):
            await self._agree_access(terms, file_id)
            done = None
            with contextlib.suppress(Conflict):
                async with self._ledger.change() as change:
                    kept = await self._document_file(change, caller, file_id)
                    done = await self._put(change, terms, kept, file.file_id)
            if done is not None:
                return done
        raise Conflict(f"file_id: {file_id!r} is being changed by others; try again.", param="file_id")

    async def add_batch(self, caller: Caller, collection_id: str, files: Sequence[WishedFile]) -> FileBatch:
        """Make documents of several kept files: all of them or, when one is wrong, none.

        Raises:
            InvalidInput: No or too many files, or a wish is wrong.
            NotFound: No such collection or file.
        """
        check_batch_size(len(files))
        wishes = {entry.file_id: entry for entry in files}
        terms = {
            entry.file_id: await self._checked(
                caller, Wish(collection_id, attributes_json=entry.attributes_json, chunking=entry.chunking)
            )
            for entry in wishes.values()
        }
        batch_id = new_id("vsfb_")
        documents = []
        async with self._ledger.change() as change:
            # In one order: two batches of the same files wait for each other and do not block each other.
            for file_id in sorted(wishes):
                file = await self._document_file(change, caller, file_id)
                done = await self._put(change, terms[file_id], file, file_id)
                if done is None:
                    raise Conflict(f"files: {file_id!r} is being changed by others; try again.", param="files")
                documents.append(done[0])
            batch = FileBatch(
                batch_id=batch_id,
                tenant=caller.tenant,
                collection_id=collection_id,
                owner=caller.subject,
                created_at=self._now(),
                cancelled=False,
                file_ids=tuple(wishes),
                use=CollectionUse(),
            )
            await change.add_batch(batch, documents)
        kept = await self._ledger.batch(caller.tenant, batch_id)
        return kept or batch

    async def _checked(self, caller: Caller, wish: Wish) -> _Terms:
        return _Terms(
            caller=caller,
            collection=await collection_for(self._ledger, caller, wish.collection_id),
            principals=None if wish.principals is None else checked_principals(wish.principals),
            attributes=checked_attributes(wish.attributes_json) if wish.attributes_json else None,
            chunking=wish.chunking,
        )

    async def _document_file(self, reading: Ledger | Change, caller: Caller, file_id: str) -> File:
        file = await file_for(reading, caller, file_id)
        if file.size_bytes > self._max_bytes:
            raise TooLarge(f"file_id: {file_id!r} has more than {self._max_bytes} bytes.", param="file_id")
        return file

    async def _holder(self, terms: _Terms, key: str) -> Document | None:
        return await self._ledger.document_by_key(terms.caller.tenant, terms.collection.collection_id, key)

    @staticmethod
    def _may_replace(caller: Caller, document: Document | None) -> None:
        if document is not None and not may_manage(caller, owner=document.owner):
            raise PermissionDenied("key: a document that only its owner and curators may change holds it.", param="key")

    async def _agree_access(self, terms: _Terms, key: str) -> None:
        """Give a document that is there already the access list that comes with its new version."""
        if terms.principals is None:
            return
        present = await self._holder(terms, key)
        self._may_replace(terms.caller, present)
        if present is not None and present.principals != terms.principals:
            await self._set_access(terms.caller, present.document_id, terms.principals)

    async def _put(self, change: Change, terms: _Terms, file: File, key: str) -> tuple[Document, bool] | None:
        """Note a document or a version; None when the document changed since its access list was agreed on."""
        collection_id = terms.collection.collection_id
        if await change.collection(terms.caller.tenant, collection_id) is None:
            raise NotFound(f"collection_id: {collection_id!r} was deleted.", param="collection_id")
        present = await change.document_by_key(terms.caller.tenant, collection_id, key)
        self._may_replace(terms.caller, present)
        if present is None:
            return await self._put_document(change, terms, file, key), False
        if terms.principals is not None and present.principals != terms.principals:
            return None
        if terms.attributes is not None and dict(terms.attributes) != dict(present.attributes):
            await put_attributes(change, self._blobs, present, terms.attributes, self._now())
        if is_unchanged(present.newest, digest=file.digest, chunking=terms.chunking):
            return await self._fresh(change, present), True
        number = present.newest.number + 1
        chunking = terms.chunking or present.newest.chunking
        await change.add_version(terms.caller.tenant, self._version(present.document_id, number, file, chunking))
        await change.add_parse_job(terms.caller.tenant, present.document_id, number)
        await change.touch_collection(collection_id, self._now())
        return await self._fresh(change, present), False

    async def _put_document(self, change: Change, terms: _Terms, file: File, key: str) -> Document:
        document_id = new_id("doc_")
        now = self._now()
        document = Document(
            document_id=document_id,
            tenant=terms.caller.tenant,
            collection_id=terms.collection.collection_id,
            key=key,
            owner=terms.caller.subject,
            principals=terms.collection.default_principals if terms.principals is None else terms.principals,
            access_revision=1,
            attributes=terms.attributes or {},
            attributes_revision=1,
            active_version=0,
            deleting=False,
            created_at=now,
            updated_at=now,
            newest=self._version(document_id, 1, file, terms.chunking or terms.collection.chunking),
        )
        await change.add_document(document)
        await change.add_parse_job(terms.caller.tenant, document_id, 1)
        await change.touch_collection(document.collection_id, now)
        return document

    async def _fresh(self, change: Change, document: Document) -> Document:
        found = await change.document(document.tenant, document.document_id)
        return found or document

    def _version(self, document_id: str, number: int, file: File, chunking: Chunking) -> Version:
        now = self._now()
        return Version(
            document_id=document_id,
            number=number,
            file_id=file.file_id,
            filename=file.filename,
            digest=file.digest,
            size_bytes=file.size_bytes,
            media_type=file.media_type,
            title=file.filename,
            chunking=chunking,
            state=DocumentState.RECEIVED,
            received_at=now,
            updated_at=now,
        )
