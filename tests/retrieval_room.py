"""The real retrieval room as a test or a benchmark starts it, fed through the real event log."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

from brain.events.v1 import chunks_pb2, document_pb2, index_pb2
from brain.retrieval.v1 import (
    embedding_pb2_grpc,
    rerank_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    withhold_pb2_grpc,
)
from services.chassis.auth import Caller, Role, TokenMinter, generate_key_pair
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.events.log import EventLog, new_envelope, open_event_log
from services.chassis.rpc.client import connect, is_serving

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS, INDEX = "brain.document.v1", "brain.index.v1"


@dataclass(frozen=True)
class Document:
    """A document version as ingestion would announce it: whole chunks, in order."""

    id: str
    chunks: Sequence[chunks_pb2.Chunk]
    title: str = ""
    filename: str = "file.md"
    version: int = 1
    tenant: str = ""
    collection: str = "vs_1"
    principals: Sequence[str] = ("group:everyone",)
    access_revision: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


def chunk(text: str, *, index: int = 0, start: int = 0, page: int = 0, headings: Sequence[str] = ()) -> Any:
    """A chunk of a stored text."""
    made = chunks_pb2.Chunk(index=index, text=text, start=start, end=start + len(text))
    made.locator.page_first = made.locator.page_last = page
    made.locator.heading_path.extend(headings)
    return made


def document(id: str, *texts: str, **about: Any) -> Document:  # noqa: A002
    """A document whose chunks are `texts`, one line each of its stored text."""
    chunks, start = [], 0
    for index, text in enumerate(texts):
        chunks.append(chunk(text, index=index, start=start))
        start += len(text) + 1
    return Document(id, chunks, text="\n".join(texts), **about)


class RetrievalRoom:
    """One process of the room, and what is around it."""

    def __init__(self, state_dir: Path, *, role: str = "all", settings: Mapping[str, str] | None = None) -> None:
        self.state_dir = state_dir
        # Whom documents and callers belong to unless they say otherwise; tests that share a room choose their own.
        self.tenant = "acme"
        self._role = role
        private, public = generate_key_pair()
        self._minter = TokenMinter(private, issuer="gateway", lifetime_s=3600)
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir / "internal.pub.pem").write_bytes(public)
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{held.getsockname()[1]}"
        self._settings = {
            "LISTEN": self.address,
            "STATE_DIR": str(state_dir),
            "DATABASE_URL": f"sqlite:///{state_dir}/room.db",
            "BLOBS_URL": f"file://{state_dir}/blobs",
            "EVENTS_URL": f"sqlite:///{state_dir}/events.db",
            "INDEX_URL": f"lancedb://{state_dir}/index",
            "TOKEN_PUBLIC_KEY_FILES": json.dumps([str(state_dir / "internal.pub.pem")]),
        } | dict(settings or {})
        self.log: EventLog = open_event_log(self._settings["EVENTS_URL"])
        self.blobs: BlobStore = open_blobs(self._settings["BLOBS_URL"])
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.log.close()

    async def start(self) -> None:
        """Start the process and wait until it serves."""
        self.process = self._spawn(self.environment)
        self.channel = connect(self.address)
        self.search_stub = search_pb2_grpc.SearchServiceStub(self.channel)
        self.embedding_stub = embedding_pb2_grpc.EmbeddingServiceStub(self.channel)
        self.rerank_stub = rerank_pb2_grpc.RerankServiceStub(self.channel)
        self.withhold_stub = withhold_pb2_grpc.WithholdServiceStub(self.channel)
        while not await is_serving(self.channel):
            if self.process.poll() is not None:
                raise RuntimeError((self.state_dir / "room.out").read_text(errors="replace")[-4000:])
            await asyncio.sleep(0.1)

    @property
    def environment(self) -> dict[str, str]:
        """What the room's processes and commands are started with."""
        said = {f"BRAIN_RETRIEVAL_{key}": value for key, value in self._settings.items()}
        return dict(os.environ) | said | {"OMP_NUM_THREADS": "1"}

    def tell_settings(self, settings: Mapping[str, str]) -> None:
        """Set what the next start is told besides."""
        self._settings |= settings

    def _spawn(self, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with (self.state_dir / "room.out").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "services.retrieval", self._role],
                cwd=ROOT,
                env=dict(environment),
                stdout=out,
                stderr=out,
            )

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process, gently or not."""
        if self.channel is not None:
            await self.channel.close()
        if self.process is not None:
            self.process.send_signal(how)
            await asyncio.to_thread(self.process.wait, 60)

    def as_(
        self, subject: str = "ann", *, tenant: str = "", groups: Sequence[str] = (), role: Role = Role.CONTRIBUTOR
    ) -> dict[str, Any]:
        """Return what a stub is called with to be someone: token and deadline."""
        token = self._minter.mint(Caller(subject, tenant or self.tenant, frozenset(groups), frozenset({role})))
        return {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 120}

    async def search(self, query: str | Sequence[str], *, top_k: int = 10, who: Any = None, **spec: Any) -> list[Any]:
        """Return the passages of a search."""
        queries = [query] if isinstance(query, str) else list(query)
        collections = spec.pop("collections", ["vs_1"])
        request = search_pb2.SearchRequest(
            spec=search_pb2.SearchSpec(queries=queries, collection_ids=collections, top_k=top_k, **spec), explain=True
        )
        return list((await self.search_stub.Search(request, **(who or self.as_()))).passages)

    async def store(self, made: Document) -> document_pb2.DocumentEvent:
        """Put the blobs of a document version; return the event that announces it."""
        tenant = made.tenant or self.tenant
        key = f"{tenant}/chunks/{made.id}/{made.version}.pb"
        text_key = f"{tenant}/text/{made.id}/{made.version}.txt"
        content = chunks_pb2.ChunkSet(
            document_id=made.id,
            version=made.version,
            title=made.title,
            filename=made.filename,
            chunks=made.chunks,
            attributes_json=json.dumps(dict(made.attributes)),
        )
        await self.blobs.put(key, content.SerializeToString())
        await self.blobs.put(text_key, made.text.encode())
        fact = document_pb2.DocumentChunked(
            document_id=made.id,
            collection_id=made.collection,
            version=made.version,
            file_id=f"file-{made.id}",
            chunks_blob_key=key,
            text_blob_key=text_key,
            chunk_count=len(made.chunks),
            principals=made.principals,
            access_revision=made.access_revision,
        )
        return document_pb2.DocumentEvent(chunked=fact)

    async def tell(self, event: document_pb2.DocumentEvent, *, key: str, tenant: str = "") -> None:
        """Publish a document event."""
        kind = event.WhichOneof("fact") or ""
        envelope = new_envelope(tenant=tenant or self.tenant, type=kind, key=key, payload=event.SerializeToString())
        await self.log.publish(DOCUMENTS, [envelope])

    async def add(self, *documents: Document, wait: bool = True) -> None:
        """Store and announce documents, and wait until the room says that they are indexed."""
        for made in documents:
            await self.tell(await self.store(made), key=made.id, tenant=made.tenant)
        if wait:
            by_tenant: dict[str, set[tuple[str, int]]] = {}
            for made in documents:
                by_tenant.setdefault(made.tenant, set()).add((made.id, made.version))
            for tenant, wanted in by_tenant.items():
                await self.told("version_indexed", wanted, tenant=tenant)

    async def told(self, kind: str, wanted: set[tuple[str, int]], *, tenant: str = "") -> dict[tuple[str, int], Any]:
        """Wait until the room has announced `kind` for all (document, version); version 0 where the fact has none."""
        while True:
            found = {}
            for event in await self.announced(tenant):
                fact = getattr(event, kind)
                if event.WhichOneof("fact") == kind:
                    found[(fact.document_id, getattr(fact, "version", 0))] = fact
            if wanted <= set(found):
                return found
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError("The room died.")
            await asyncio.sleep(0.1)

    async def announced(self, tenant: str = "") -> list[index_pb2.IndexEvent]:
        """Return everything the room has announced so far about a tenant's documents."""
        records = await self.log.read(INDEX, "test", limit=100_000, wait_s=0.05)
        return [
            index_pb2.IndexEvent.FromString(record.envelope.payload)
            for record in records
            if record.envelope.tenant == (tenant or self.tenant)
        ]

    async def idle(self) -> None:
        """Wait until every document event is done."""
        while await self.log.lag(DOCUMENTS, "retrieval-indexer"):
            await asyncio.sleep(0.05)
