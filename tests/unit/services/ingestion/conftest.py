"""The ingestion room as its callers meet it: over gRPC, with the SQLite log, its jobs and its parsers.

What stands for retrieval is there on the wire alone: a servicer that withholds, and a member of the event log that
answers what it is told.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from brain.events.v1 import chunks_pb2, index_pb2
from brain.events.v1 import document_pb2 as facts_pb2
from brain.ingestion.v1 import (
    batch_pb2_grpc,
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    file_pb2,
    file_pb2_grpc,
)
from brain.retrieval.v1 import withhold_pb2, withhold_pb2_grpc
from services.chassis.auth import Caller, Role, TokenMinter, generate_key_pair
from services.chassis.errors import NotFound
from services.chassis.events.log import Envelope, EventLog, new_envelope, open_event_log
from services.chassis.lifecycle import Lifecycle
from services.chassis.rpc.client import connect, remote
from services.ingestion.backends.child import read_document
from services.ingestion.bootstrap import Role as RoomRole
from services.ingestion.bootstrap import join
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import Chunking, ParsedDocument
from services.ingestion.settings import IngestionSettings

ALICE = Caller("alice", "acme", frozenset({"sales"}), frozenset({Role.CONTRIBUTOR}))
BOB = Caller("bob", "acme", frozenset({"sales"}), frozenset({Role.CONTRIBUTOR}))
VERA = Caller("vera", "acme", frozenset(), frozenset({Role.VIEWER}))
CURT = Caller("curt", "acme", frozenset(), frozenset({Role.CURATOR}))
BOSS = Caller("boss", "acme", frozenset(), frozenset({Role.ADMINISTRATOR}))
FOREIGNER = Caller("alice", "globex", frozenset({"sales"}), frozenset({Role.ADMINISTRATOR}))
FINAL = {
    document_pb2.DOCUMENT_STATE_INDEXED,
    document_pb2.DOCUMENT_STATE_FAILED,
    document_pb2.DOCUMENT_STATE_CANCELLED,
}


class RealReader:
    """The room's own parsers, in this process: the sandbox around them has tests of its own."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading: list[str] = []

    async def read(self, path: Path, *, filename: str, chunking: Chunking) -> ParsedDocument:
        self.reading.append(filename)
        await self.gate.wait()
        return await asyncio.to_thread(read_document, path, filename=filename, chunking=chunking, limits=Limits())


@dataclass
class Retrieval(withhold_pb2_grpc.WithholdServiceServicer):
    """The searchable side, on the wire."""

    log: EventLog
    blobs: Path
    withheld: set[str] = field(default_factory=set)
    restricted: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    chunks: dict[tuple[str, int], chunks_pb2.ChunkSet] = field(default_factory=dict)
    facts: list[facts_pb2.DocumentEvent] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    broken: bool = False
    broken_after: int = 10_000
    silent: bool = False
    rejects: str = ""

    async def WithholdDocument(self, request: Any, context: Any) -> Any:
        if self.broken or len(self.withheld) >= self.broken_after:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.withheld.add(request.document_id)
        return withhold_pb2.WithholdDocumentResponse(withheld_count=1)

    async def RestrictDocument(self, request: Any, context: Any) -> Any:
        if self.broken:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.restricted[request.document_id] = (request.access_revision, tuple(request.principals))
        return withhold_pb2.RestrictDocumentResponse(access_revision=request.access_revision)

    async def run(self) -> None:
        while True:
            for record in await self.log.read("brain.document.v1", "retrieval", limit=50, wait_s=0.2):
                await self.hear(record.envelope)
                await self.log.commit("retrieval", record)

    async def hear(self, envelope: Envelope) -> None:
        event = facts_pb2.DocumentEvent.FromString(envelope.payload)
        self.facts.append(event)
        self.envelopes.append(envelope)
        match event.WhichOneof("fact"):
            case "chunked" if self.rejects:
                fact = event.chunked
                refused = index_pb2.VersionRejected(
                    document_id=fact.document_id, version=fact.version, reason=self.rejects
                )
                await self.say(envelope.tenant, index_pb2.IndexEvent(version_rejected=refused), fact.document_id)
            case "chunked":
                fact = event.chunked
                data = (self.blobs / fact.chunks_blob_key).read_bytes()
                self.chunks[fact.document_id, fact.version] = chunks_pb2.ChunkSet.FromString(data)
                if not self.silent:
                    await self.index(envelope.tenant, fact.document_id, fact.version)
            case "deleted":
                document_id = event.deleted.document_id
                gone = [key for key in self.chunks if key[0] == document_id]
                count = sum(len(self.chunks.pop(key).chunks) for key in gone)
                removed = index_pb2.DocumentRemoved(document_id=document_id, removed_count=count, remaining_count=0)
                await self.say(envelope.tenant, index_pb2.IndexEvent(document_removed=removed), document_id)

    async def index(self, tenant: str, document_id: str, version: int) -> None:
        fact = index_pb2.VersionIndexed(document_id=document_id, version=version, chunk_count=1)
        await self.say(tenant, index_pb2.IndexEvent(version_indexed=fact), document_id)

    async def say(self, tenant: str, event: index_pb2.IndexEvent, key: str) -> None:
        kind = str(event.WhichOneof("fact"))
        await self.log.publish(
            "brain.index.v1", [new_envelope(tenant=tenant, type=kind, key=key, payload=event.SerializeToString())]
        )

    def kinds(self, document_id: str) -> list[str]:
        return [
            str(entry.WhichOneof("fact"))
            for entry in self.facts
            if getattr(entry, str(entry.WhichOneof("fact"))).document_id == document_id
        ]


@dataclass
class Room:
    """The room with everything that a test looks at."""

    channel: grpc.aio.Channel
    minter: TokenMinter
    retrieval: Retrieval
    reader: RealReader
    registry: CollectorRegistry
    blobs: Path
    settings: IngestionSettings

    def __post_init__(self) -> None:
        self.collections: Any = collection_pb2_grpc.CollectionServiceStub(self.channel)
        self.documents: Any = document_pb2_grpc.DocumentServiceStub(self.channel)
        self.files: Any = file_pb2_grpc.FileServiceStub(self.channel)
        self.batches: Any = batch_pb2_grpc.FileBatchServiceStub(self.channel)

    async def call(self, method: Any, request: Any, caller: Caller = ALICE) -> Any:
        with remote("ingestion", token=self.minter.mint(caller)) as metadata:
            return await method(request, timeout=60, metadata=metadata)

    async def collection(self, caller: Caller = ALICE, **values: Any) -> str:
        answer = await self.call(
            self.collections.CreateCollection, collection_pb2.CreateCollectionRequest(**values), caller
        )
        return str(answer.collection.collection_id)

    async def upload(
        self, collection_id: str, data: bytes, *, caller: Caller = ALICE, part: int = 65_536, **header: Any
    ) -> Any:
        values = {"filename": "note.md"} | header

        async def parts() -> AsyncIterator[Any]:
            yield document_pb2.UploadDocumentRequest(
                header=document_pb2.UploadDocumentHeader(collection_id=collection_id, **values)
            )
            for start in range(0, len(data), part):
                yield document_pb2.UploadDocumentRequest(data=data[start : start + part])

        return await self.call(self.documents.UploadDocument, parts(), caller)

    async def upload_file(self, data: bytes, *, caller: Caller = ALICE, **header: Any) -> Any:
        values = {"filename": "note.md", "purpose": "assistants"} | header

        async def parts() -> AsyncIterator[Any]:
            yield file_pb2.UploadFileRequest(header=file_pb2.UploadFileHeader(**values))
            for start in range(0, len(data), 65_536):
                yield file_pb2.UploadFileRequest(data=data[start : start + 65_536])

        return (await self.call(self.files.UploadFile, parts(), caller)).file

    async def get(self, document_id: str, caller: Caller = ALICE) -> Any:
        request = document_pb2.GetDocumentRequest(document_id=document_id)
        return (await self.call(self.documents.GetDocument, request, caller)).document

    async def until(self, document_id: str, reached: Callable[[Any], bool], caller: Caller = ALICE) -> Any:
        async with asyncio.timeout(60):
            while not reached(found := await self.get(document_id, caller)):
                await asyncio.sleep(0.02)
        return found

    async def ended(self, document_id: str, caller: Caller = ALICE) -> Any:
        return await self.until(document_id, lambda found: found.state in FINAL, caller)

    async def indexed(self, collection_id: str, data: bytes, **header: Any) -> Any:
        made = await self.upload(collection_id, data, **header)
        found = await self.ended(made.document.document_id, header.get("caller", ALICE))
        assert found.state == document_pb2.DOCUMENT_STATE_INDEXED, found
        return found

    async def delete(self, document_id: str, caller: Caller = ALICE) -> Any:
        request = document_pb2.DeleteDocumentRequest(document_id=document_id)
        return (await self.call(self.documents.DeleteDocument, request, caller)).deletion

    async def deleted(self, document_id: str, caller: Caller = ALICE) -> Any:
        """Wait for the receipt to be complete."""
        request = document_pb2.GetDeletionRequest(document_id=document_id)
        async with asyncio.timeout(60):
            while True:
                receipt = (await self.call(self.documents.GetDeletion, request, caller)).deletion
                if receipt.HasField("completed_at"):
                    return receipt
                await asyncio.sleep(0.02)

    async def gone(self, document_id: str, caller: Caller = ALICE) -> bool:
        try:
            await self.get(document_id, caller)
        except NotFound:
            return True
        return False

    def kept(self) -> list[str]:
        """Every blob that lies in the store."""
        return sorted(str(path.relative_to(self.blobs)) for path in self.blobs.rglob("*") if path.is_file())

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


Opened = Callable[..., Awaitable[Room]]


@pytest.fixture
async def open_room(tmp_path: Path, database_url: str) -> AsyncIterator[Opened]:
    """Start the room (again) on the same state; settings may be given."""
    private, public = generate_key_pair()
    key_file = tmp_path / "key.pub"
    key_file.write_bytes(public)
    blobs = tmp_path / "blobs"
    log = open_event_log(f"sqlite:///{tmp_path}/events.db")
    retrieval = Retrieval(log, blobs)
    server = grpc.aio.server()
    withhold_pb2_grpc.add_WithholdServiceServicer_to_server(retrieval, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = asyncio.create_task(retrieval.run())
    opened: list[tuple[Lifecycle, grpc.aio.Channel]] = []

    async def close() -> None:
        while opened:
            life, channel = opened.pop()
            await channel.close()
            for _, stop in reversed(life._stops):
                await stop()

    async def start(**values: Any) -> Room:
        await close()
        defaults: dict[str, Any] = {
            "database_url": database_url,
            "blobs_url": f"file://{blobs}",
            "events_url": f"sqlite:///{tmp_path}/events.db",
            "state_dir": tmp_path / "state",
            "token_public_key_files": (key_file,),
            "retrieval_address": f"127.0.0.1:{port}",
            "drain_s": 0.0,
            "job_lease_s": 2.0,
        }
        settings = IngestionSettings(**(defaults | values))
        life, registry, reader = Lifecycle("ingestion"), CollectorRegistry(), RealReader()
        address = await join(settings, RoomRole.ALL, life=life, registry=registry, reader=reader)
        channel = connect(address)
        opened.append((life, channel))
        return Room(channel, TokenMinter(private, issuer="gateway"), retrieval, reader, registry, blobs, settings)

    yield start
    await close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(0)
    await log.close()


@pytest.fixture
async def room(open_room: Opened) -> Room:
    return await open_room()
