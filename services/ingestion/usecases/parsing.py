"""Reading a version: bytes → text, chunks and places, announced in the transaction that makes them true."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import BrainError, Conflict
from services.chassis.jobs.table import Job
from services.ingestion.domain.blobs import Blob, file_key, version_key
from services.ingestion.domain.documents import WAITING, Document, DocumentState, Failure, Version
from services.ingestion.domain.facts import Chunked
from services.ingestion.domain.sections import packed_sections
from services.ingestion.domain.text import FailureCode, ParsedDocument, Unreadable
from services.ingestion.ports import Blobs, Change, ChunkForm, DocumentReader, Ledger
from services.ingestion.telemetry import PARSE_SPAN, Metrics, spans
from services.ingestion.usecases.lookup import living_version

__all__ = ["ReadVersion"]

_log = structlog.get_logger()

_NO_TEXT: Final = Failure(FailureCode.INVALID_FILE, "No text was found in the file.")


class ReadVersion:
    """Reads versions, and ends those that cannot be read.

    Args:
        ledger: Records.
        blobs: Bytes.
        reader: Reads files.
        form: The form in which chunks are handed on.
        metrics: Where outcomes and times are counted.
        scratch: Folder for the copies that the reader's child processes open; None for the system's.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        reader: DocumentReader,
        form: ChunkForm,
        metrics: Metrics,
        scratch: Path | None,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._reader = reader
        self._form = form
        self._metrics = metrics
        self._scratch = scratch
        self._now = now

    async def __call__(self, job: Job) -> None:
        """Do one job: bring its version to CHUNKED or FAILED.

        Raises:
            Conflict: The job was cancelled, or handed to another worker.
            Unavailable: Something passing; the job is to be tried again.
        """
        begun = await self._begin(job)
        if begun is None:
            return
        document, version = begun
        started = self._now()
        with spans.start_as_current_span(PARSE_SPAN) as span:
            span.set_attribute("brain.document_id", version.document_id)
            span.set_attribute("brain.version", version.number)
            try:
                parsed = await self._read(document, version)
            except Unreadable as error:
                await self._give_up(job, version, Failure(error.code, error.reason))
                return
            if not parsed.chunks:
                await self._give_up(job, version, _NO_TEXT)
                return
            await self._keep(job, document, version, parsed)
            span.set_attribute("brain.chunk_count", len(parsed.chunks))
            self._metrics.parsing.labels(outcome="chunked").observe(self._now() - started)

    async def fail(self, job: Job, error: BrainError) -> None:
        """Bring the version of a job that will not be tried again to FAILED."""
        async with self._ledger.change() as change:
            found = await living_version(change, job.tenant, *_subject(job))
            if found is None or found[1].state not in WAITING:
                return
            version = found[1]
            failure = Failure(FailureCode.SERVER_ERROR, error.message)
            await change.put_version(version.failed(failure, self._now()))
        self._metrics.documents.labels(outcome="failed").inc()
        _log.warning("version_failed", document_id=version.document_id, version=version.number, code=failure.code)

    async def _begin(self, job: Job) -> tuple[Document, Version] | None:
        """Note that a version is being read; None when there is nothing left to do."""
        document_id, number = _subject(job)
        async with self._ledger.change() as change:
            found = await living_version(change, job.tenant, document_id, number)
            if found is None or found[1].state not in WAITING:
                await change.complete(job)
                return None
            document, version = found
            if await change.announced_after(document_id, number):
                # The index must never go back from a later version to this one.
                await change.put_version(replace(version, state=DocumentState.CANCELLED, updated_at=self._now()))
                await change.complete(job)
                return None
            version = replace(version, state=DocumentState.PARSING, updated_at=self._now())
            await change.put_version(version)
        return document, version

    async def _read(self, document: Document, version: Version) -> ParsedDocument:
        with tempfile.TemporaryDirectory(prefix="read-", dir=self._scratch) as folder:
            # The name is ours: the caller's might disguise a path.
            path = Path(folder) / "source"
            with path.open("wb") as copy:
                async for part in self._blobs.stream(file_key(document.tenant, version.digest)):
                    await asyncio.to_thread(copy.write, part)
            return await self._reader.read(path, filename=version.filename, chunking=version.chunking)

    async def _keep(self, job: Job, document: Document, version: Version, parsed: ParsedDocument) -> None:
        """Write what was read, then make it true and announce it in one transaction."""
        tenant, number = document.tenant, version.number
        keys = {kind: version_key(tenant, kind, version.document_id, number) for kind in Blob.ALL}
        contents = {Blob.TEXT: parsed.text.encode(), Blob.SECTIONS: packed_sections(parsed.sections)}
        if parsed.boxes:
            contents[Blob.BOXES] = parsed.boxes
        await asyncio.gather(*(self._blobs.put(keys[kind], data) for kind, data in contents.items()))
        while True:
            await self._blobs.put(keys[Blob.CHUNKS], self._form.chunks(document, version, parsed))
            current = await self._announce(job, document, version, parsed)
            if current is None:
                return
            # The attributes, which travel with the chunks, changed meanwhile.
            document = current

    async def _announce(
        self, job: Job, document: Document, version: Version, parsed: ParsedDocument
    ) -> Document | None:
        """Commit the result; return the document when its attributes are no longer those that were written."""
        try:
            async with self._ledger.change() as change:
                await self._commit(change, document, version, parsed)
                await change.complete(job)
        except _AttributesChangedError as changed:
            return changed.document
        except Conflict:
            await self._clear(document.tenant, version.document_id, version.number)
            raise
        return None

    async def _commit(self, change: Change, document: Document, version: Version, parsed: ParsedDocument) -> None:
        """Make a version CHUNKED and announce it, unless a later one was announced before."""
        tenant, document_id, number = document.tenant, version.document_id, version.number
        current = await change.document(tenant, document_id)
        if current is None or current.deleting:
            raise Conflict(f"Document {document_id} was deleted while it was read.")
        if current.attributes_revision != document.attributes_revision:
            raise _AttributesChangedError(current)
        late = await change.announced_after(document_id, number)
        await change.put_version(
            replace(
                version,
                state=DocumentState.CANCELLED if late else DocumentState.CHUNKED,
                title=parsed.title,
                media_type=parsed.media_type,
                chunk_count=len(parsed.chunks),
                warnings=parsed.warnings,
                updated_at=self._now(),
            )
        )
        if late:
            return
        fact = Chunked(
            document_id=document_id,
            collection_id=current.collection_id,
            version=number,
            file_id=version.file_id,
            chunks_key=version_key(tenant, Blob.CHUNKS, document_id, number),
            text_key=version_key(tenant, Blob.TEXT, document_id, number),
            chunk_count=len(parsed.chunks),
            principals=current.readers,
            access_revision=current.access_revision,
        )
        await change.announce(tenant, fact)

    async def _clear(self, tenant: str, document_id: str, number: int) -> None:
        """Remove what was written for a document that was deleted meanwhile: nobody else would."""
        document = await self._ledger.document(tenant, document_id)
        if document is None or document.deleting:
            await self._blobs.delete([version_key(tenant, kind, document_id, number) for kind in Blob.ALL])

    async def _give_up(self, job: Job, version: Version, failure: Failure) -> None:
        async with self._ledger.change() as change:
            await change.put_version(version.failed(failure, self._now()))
            await change.complete(job)
        self._metrics.documents.labels(outcome="failed").inc()
        self._metrics.parsing.labels(outcome=failure.code.value).observe(self._now() - version.updated_at)
        _log.info("version_failed", document_id=version.document_id, version=version.number, code=failure.code)


class _AttributesChangedError(Exception):
    """Undoes a transaction whose chunks carry attributes that are no longer the document's."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document


def _subject(job: Job) -> tuple[str, int]:
    """Return the document and the number of the version that a job is about."""
    return str(job.payload["document_id"]), int(job.payload["version"])
