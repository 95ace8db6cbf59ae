"""The chat room over real channels, between a small library and a small engine that a test sets up."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from brain.chat.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    conversation_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    receipt_pb2_grpc,
)
from brain.events.v1 import answer_pb2
from brain.events.v1 import feedback_pb2 as feedback_events
from brain.generation.v1 import generation_pb2, generation_pb2_grpc, model_pb2, model_pb2_grpc
from brain.retrieval.v1 import (
    embedding_pb2,
    embedding_pb2_grpc,
    rerank_pb2,
    rerank_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from brain.types.v1 import sampling_pb2
from services.chassis.auth import ANYONE, Caller, TokenMinter, TokenVerifier, current_caller, generate_key_pair
from services.chassis.errors import BrainError, Unavailable
from services.chassis.events.sqlite import SqliteEventLog
from services.chassis.lifecycle import Lifecycle
from services.chassis.rpc.client import connect, remote
from services.chassis.rpc.server import RpcServer, methods_of
from services.chat.bootstrap import build
from services.chat.settings import ChatSettings
from services.layout.words import content
from tests.unit.services.chat.perks import ANNA, ANSWER, CARS, PERKS


@dataclass
class Library(
    search_pb2_grpc.SearchServiceServicer,
    embedding_pb2_grpc.EmbeddingServiceServicer,
    rerank_pb2_grpc.RerankServiceServicer,
):
    """Documents by id; a search finds those that share words with the query."""

    documents: dict[str, tuple[str, str]] = field(default_factory=dict)
    hidden_from: dict[str, set[str]] = field(default_factory=dict)
    error: BrainError | None = None
    searches: list[Any] = field(default_factory=list)

    async def Search(self, request: Any, context: Any) -> Any:
        self.searches.append(request)
        if self.error is not None:
            raise self.error
        words = {token.stem for query in request.spec.queries for token in content(query)}
        found = []
        for identity, (title, text) in self.documents.items():
            if current_caller().subject in self.hidden_from.get(identity, set()):
                continue
            share = len(words & {token.stem for token in content(f"{title} {text}")}) / max(1, len(words))
            if share:
                found.append((share, identity, title, text))
        found.sort(reverse=True)
        passages = [
            search_pb2.Passage(
                document_id=identity, version=1, collection_id="vs_1", title=title, filename=f"{identity}.md",
                text=text[10:], start=10, end=len(text), score=share, similarity=share,
            )
            for share, identity, title, text in found[: request.spec.top_k]
        ]  # fmt: skip
        return search_pb2.SearchResponse(passages=passages)

    async def ResolveSpans(self, request: Any, context: Any) -> Any:
        spans = []
        for span in request.spans:
            known = self.documents.get(span.document_id)
            if known is None or current_caller().subject in self.hidden_from.get(span.document_id, set()):
                spans.append(search_pb2.ResolvedSpan(available=False))
            else:
                title, text = known
                spans.append(
                    search_pb2.ResolvedSpan(
                        available=True, text=text[span.start : span.end], title=title, filename="f", current=True
                    )
                )
        return search_pb2.ResolveSpansResponse(spans=spans)

    async def Rerank(self, request: Any, context: Any) -> Any:
        words = {token.stem for token in content(request.query)}
        shares = [len(words & {token.stem for token in content(text)}) / max(1, len(words)) for text in request.texts]
        order = sorted(range(len(shares)), key=lambda at: -shares[at])
        results = [rerank_pb2.RerankResult(index=at, score=shares[at]) for at in order]
        return rerank_pb2.RerankResponse(results=results, ranker=request.ranker)

    async def Explain(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def Embed(self, request: Any, context: Any) -> Any:
        rows = np.zeros((len(request.texts), 64), dtype="<f4")
        for row, text in zip(rows, request.texts, strict=True):
            for token in content(text):
                row[int(hashlib.sha256(token.stem.encode()).hexdigest(), 16) % 64] += 1
        rows += 1e-6
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return embedding_pb2.EmbedResponse(vectors=rows.tobytes(), dimension=64, model="words")


@dataclass
class Engine(generation_pb2_grpc.GenerationServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """Says what `answers` returns for the prompt, a word at a time."""

    answers: Callable[[list[Any]], str] = lambda messages: "Nothing to say."
    pause_s: float = 0.0
    endless: bool = False
    window: int = 2048
    # Words after which the engine breaks off; 0 never.
    dies_after: int = 0
    # Aliases: who answers when that name is asked for.
    names: dict[str, str] = field(default_factory=dict)
    prompts: list[list[Any]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        messages = list(request.prompt.conversation.messages)
        self.prompts.append(messages)
        self.requests.append(request)
        words = self.answers(messages).split(" ")
        digest = hashlib.sha256(json.dumps([(one.role, one.content) for one in messages]).encode()).hexdigest()
        usage = sampling_pb2.TokenUsage(prompt_tokens=7, completion_tokens=len(words))
        try:
            for index in range(request.sampling.n or 1):
                for position, word in enumerate(words):
                    last = position == len(words) - 1
                    await asyncio.sleep(self.pause_s)
                    if self.dies_after and position >= self.dies_after:
                        raise Unavailable("The engine died.")
                    yield generation_pb2.GenerateResponse(
                        index=index, text=word if last else word + " ", model=self.names.get(request.model, request.model or "base"),
                        prompt_hash="" if position or index else digest,
                        finish_reason=sampling_pb2.FINISH_REASON_STOP
                        if last and not self.endless
                        else sampling_pb2.FINISH_REASON_UNSPECIFIED,
                        usage=usage if last or not position else None,
                    )  # fmt: skip
            while self.endless:
                await asyncio.sleep(0.01)
                yield generation_pb2.GenerateResponse(text="more ")
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def Tokenize(self, request: Any, context: Any) -> Any:
        def ids(text: str) -> Any:
            return generation_pb2.TokenIds(ids=range(len(text.split())))

        whole = sum(len(message.content.split()) + 4 for message in request.conversation.messages)
        return generation_pb2.TokenizeResponse(
            sequences=[ids(text) for text in request.texts],
            conversation_tokens=whole,
            context_window=self.window,
            model=self.names.get(request.model, request.model or "base"),
        )

    async def Detokenize(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def Score(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def RegisterAdapter(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def UnregisterAdapter(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def CheckAdapter(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def WithholdAdapters(self, request: Any, context: Any) -> Any:
        raise AssertionError("the chat room does not ask for it")

    async def ListModels(self, request: Any, context: Any) -> Any:
        return model_pb2.ListModelsResponse(models=[model_pb2.Model(name="base", context_window=self.window)])


@dataclass
class Room:
    """The chat room, running, and its neighbours."""

    library: Library
    engine: Engine
    minter: TokenMinter
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    folder: Path

    @property
    def feedback(self) -> Any:
        return feedback_pb2_grpc.FeedbackServiceStub(self.channel)

    @property
    def receipts(self) -> Any:
        return receipt_pb2_grpc.ReceiptServiceStub(self.channel)

    @property
    def conversations(self) -> Any:
        return conversation_pb2_grpc.ConversationServiceStub(self.channel)

    def stream(self, request: chat_pb2.ChatRequest, caller: Caller = ANNA) -> Any:
        metadata = (("authorization", f"Bearer {self.minter.mint(caller)}"),)
        stub: Any = chat_pb2_grpc.ChatServiceStub(self.channel)
        return stub.Chat(request, timeout=30, metadata=metadata)

    async def ask(self, request: chat_pb2.ChatRequest, caller: Caller = ANNA) -> "Heard":
        with remote("chat", "Chat", token=self.minter.mint(caller)) as metadata:
            stub: Any = chat_pb2_grpc.ChatServiceStub(self.channel)
            return Heard([event async for event in stub.Chat(request, timeout=30, metadata=metadata)])

    async def call(self, method: Any, request: Any, caller: Caller = ANNA) -> Any:
        with remote("chat", "call", token=self.minter.mint(caller)) as metadata:
            return await method(request, timeout=30, metadata=metadata)

    async def judge(self, receipt_id: str, kind: str, caller: Caller = ANNA, **said: str) -> Any:
        """Give feedback; `kind` is `THUMB_UP`, `THUMB_DOWN` or `EDIT`."""
        request = feedback_pb2.GiveFeedbackRequest(
            receipt_id=receipt_id, kind=feedback_pb2.FeedbackKind.Value(f"FEEDBACK_KIND_{kind}"), **said
        )
        return await self.call(self.feedback.GiveFeedback, request, caller)

    async def listed(self, caller: Caller = ANNA, limit: int = 0, after: str = "", **wanted: Any) -> Any:
        """List feedback; the rest is the filter."""
        request = feedback_pb2.ListFeedbackRequest(
            filter=feedback_pb2.FeedbackFilter(**wanted), limit=limit, after=after
        )
        return await self.call(self.feedback.ListFeedback, request, caller)

    async def exported(self, caller: Caller, **wanted: Any) -> tuple[Any, list[Any]]:
        """Return the counts and the rows of an export."""
        request = feedback_pb2.ExportFeedbackRequest(filter=feedback_pb2.FeedbackFilter(**wanted))
        with remote("chat", "ExportFeedback", token=self.minter.mint(caller)) as metadata:
            parts = [part async for part in self.feedback.ExportFeedback(request, timeout=30, metadata=metadata)]
        return parts[0].counts, [json.loads(part.row_json) for part in parts[1:]]

    async def told(self, topic: str, count: int) -> list[Any]:
        """Wait until `count` events are on a topic, and return what each says."""
        kinds: dict[str, Any] = {"answer": answer_pb2.AnswerEvent, "feedback": feedback_events.FeedbackEvent}
        log = SqliteEventLog(str(self.folder / "events.db"))
        try:
            async with asyncio.timeout(10):
                while len(records := await log.read(f"brain.{topic}.v1", "test", limit=100, wait_s=0.1)) < count:
                    await asyncio.sleep(0.02)
        finally:
            await log.close()
        events = [kinds[topic].FromString(record.envelope.payload) for record in records]
        return [getattr(event, event.WhichOneof("fact")) for event in events]

    def blobs(self) -> list[Path]:
        """The files that other rooms could read."""
        return sorted(path for path in (self.folder / "blobs").rglob("*") if path.is_file())

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@dataclass
class Heard:
    """What a caller heard in one turn."""

    events: list[Any]

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.of("text") if delta.index == 0)

    @property
    def finished(self) -> Any:
        return self.of("finished")[0]

    @property
    def citations(self) -> list[Any]:
        return self.of("citation")


def request(
    *turns: str, collections: tuple[str, ...] = ("vs_1",), system: str = "", **fields: Any
) -> chat_pb2.ChatRequest:
    """A turn: user and assistant by turns, the last one the user's."""
    roles = ["user", "assistant"] * len(turns)
    messages = [sampling_pb2.Message(role="system", content=system)] if system else []
    messages += [sampling_pb2.Message(role=role, content=text) for role, text in zip(roles, turns, strict=False)]
    return chat_pb2.ChatRequest(
        messages=messages, retrieval=chat_pb2.RetrievalOptions(collection_ids=collections), **fields
    )


@pytest.fixture
def a_request() -> Callable[..., chat_pb2.ChatRequest]:
    return request


@pytest.fixture
async def room(tmp_path: Path, database_url: str) -> AsyncIterator[Room]:
    private, public = generate_key_pair()
    key = tmp_path / "key.pem"
    key.write_bytes(public)
    library = Library(documents={"doc_perks": PERKS, "doc_cars": CARS})
    engine, registry = Engine(answers=lambda _messages: ANSWER), CollectorRegistry()
    neighbours = []
    addresses = []
    for name, services in (
        (
            "retrieval",
            (
                (search_pb2_grpc.add_SearchServiceServicer_to_server, library, "brain.retrieval.v1.SearchService"),
                (
                    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server,
                    library,
                    "brain.retrieval.v1.EmbeddingService",
                ),
                (rerank_pb2_grpc.add_RerankServiceServicer_to_server, library, "brain.retrieval.v1.RerankService"),
            ),
        ),
        (
            "generation",
            (
                (
                    generation_pb2_grpc.add_GenerationServiceServicer_to_server,
                    engine,
                    "brain.generation.v1.GenerationService",
                ),
                (model_pb2_grpc.add_ModelServiceServicer_to_server, engine, "brain.generation.v1.ModelService"),
            ),
        ),
    ):
        server = RpcServer(
            room=name,
            listen="127.0.0.1:0",
            policy={method: ANYONE for _, _, service in services for method in methods_of(service)},
            verifier=TokenVerifier([public]),
            registry=CollectorRegistry(),
        )
        for add, servicer, service in services:
            server.add(add, servicer, service)
        addresses.append(await server.start())
        neighbours.append(server)
    settings = ChatSettings(
        database_url=database_url,
        retrieval_address=addresses[0],
        generation_address=addresses[1],
        blobs_url=f"file://{tmp_path / 'blobs'}",
        events_url=f"sqlite:///{tmp_path / 'events.db'}",
        token_public_key_files=(key,),
        allowed_link_hosts=("intranet.example",),
    )
    lifecycle = Lifecycle("chat")
    server = await build(settings, lifecycle, registry)
    channel = connect(await server.start())
    yield Room(library, engine, TokenMinter(private, issuer="gateway"), registry, channel, tmp_path)
    await channel.close()
    await server.stop(0)
    for _, stop in reversed(lifecycle._stops):
        await stop()
    for neighbour in neighbours:
        await neighbour.stop(0)
