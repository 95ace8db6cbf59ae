"""Where the chat room is put together: the only importer of back ends."""

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.chat.v1 import chat_pb2_grpc, conversation_pb2_grpc, receipt_pb2_grpc
from services.chassis.database import Database, migrate
from services.chassis.lifecycle import Lifecycle
from services.chassis.rpc.client import connect
from services.chassis.rpc.server import RpcServer
from services.chassis.rpc.tls import tls_files
from services.chassis.telemetry import tracer
from services.chat.api.chat import ChatApi
from services.chat.api.conversations import ConversationApi
from services.chat.api.receipts import ReceiptApi
from services.chat.backends import generation, retrieval
from services.chat.backends.database import SqlRecords
from services.chat.backends.prompt_files import read_prompts
from services.chat.backends.system_clock import SystemClock
from services.chat.domain.citations import Thresholds
from services.chat.domain.support import CALIBRATED
from services.chat.policy import POLICY
from services.chat.settings import ChatSettings
from services.chat.telemetry import Metrics
from services.chat.usecases.cite import Cite
from services.chat.usecases.conversations import DeleteConversation, GetConversation, ListConversations
from services.chat.usecases.grounded import AnswerGrounded
from services.chat.usecases.keeping import KeepTurn
from services.chat.usecases.passages import FindPassages
from services.chat.usecases.prompting import FitPrompt
from services.chat.usecases.queries import MakeQueries
from services.chat.usecases.receipts import GetReceipt, ReplayReceipt
from services.chat.usecases.support import JudgeSupport
from services.chat.usecases.turn import AnswerTurn

_log = structlog.get_logger()


async def serve(settings: ChatSettings) -> None:
    """Run the room until a signal comes."""
    lifecycle = Lifecycle("chat")
    server = await build(settings, lifecycle, REGISTRY)
    address = await server.serve(lifecycle, drain_s=settings.drain_s)
    _log.info("room_ready", room="chat", address=address)
    await lifecycle.run_until_signal()


async def build(settings: ChatSettings, lifecycle: Lifecycle, registry: CollectorRegistry) -> RpcServer:
    """Return the room's server, joined and not yet started."""
    tls = tls_files(settings)
    database = Database(settings.database_url)
    await migrate(database, "services.chat.migrations")
    lifecycle.on_stop(database.close, name="database")
    to_retrieval = connect(settings.retrieval_address, idempotent=retrieval.IDEMPOTENT, tls=tls)
    to_generation = connect(settings.generation_address, idempotent=generation.IDEMPOTENT, tls=tls)
    lifecycle.on_stop(to_retrieval.close, name="retrieval")
    lifecycle.on_stop(to_generation.close, name="generation")
    library = retrieval.RemoteLibrary(to_retrieval, top_k=settings.top_k, timeout_s=settings.search_timeout_s)
    engine = generation.RemoteEngine(
        to_generation,
        call_timeout_s=settings.search_timeout_s,
        first_token_timeout_s=settings.first_token_timeout_s,
        stall_timeout_s=settings.stall_timeout_s,
    )
    records = SqlRecords(database)
    texts = read_prompts()
    metrics, clock, spans = Metrics(registry), SystemClock(), tracer("brain.chat")
    answer_grounded = AnswerGrounded(
        engine=engine,
        cite=Cite(library=library, metrics=metrics, thresholds=Thresholds()),
        texts=texts,
        sure=CALIBRATED.sure,
        allowed_hosts=frozenset(host.lower() for host in settings.allowed_link_hosts),
    )
    answer_turn = AnswerTurn(
        engine=engine,
        records=records,
        keep_turn=KeepTurn(records=records, texts=texts, clock=clock),
        make_queries=MakeQueries(engine=engine, texts=texts),
        find_passages=FindPassages(library=library),
        judge_support=JudgeSupport(library=library, model=CALIBRATED),
        fit_prompt=FitPrompt(engine=engine, texts=texts),
        answer_grounded=answer_grounded,
        texts=texts,
        answerable=CALIBRATED.answer,
        temperature=settings.temperature,
        frequency_penalty=settings.frequency_penalty,
        most_history=settings.most_history,
        metrics=metrics,
        clock=clock,
        tracer=spans,
    )
    get_receipt = GetReceipt(records=records, library=library)
    replay_receipt = ReplayReceipt(
        get_receipt=get_receipt,
        engine=engine,
        answer_grounded=answer_grounded,
        texts=texts,
        metrics=metrics,
        clock=clock,
        tracer=spans,
    )
    server = RpcServer.of(settings, room="chat", policy=POLICY, registry=registry)
    server.add(
        chat_pb2_grpc.add_ChatServiceServicer_to_server, ChatApi(answer_turn=answer_turn), "brain.chat.v1.ChatService"
    )
    server.add(
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server,
        ConversationApi(
            list_conversations=ListConversations(records=records),
            get_conversation=GetConversation(records=records),
            delete_conversation=DeleteConversation(records=records),
        ),
        "brain.chat.v1.ConversationService",
    )
    server.add(
        receipt_pb2_grpc.add_ReceiptServiceServicer_to_server,
        ReceiptApi(get_receipt=get_receipt, replay_receipt=replay_receipt),
        "brain.chat.v1.ReceiptService",
    )
    return server
