"""Where the chat room is put together: the only importer of back ends."""

import asyncio
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY, CollectorRegistry

from brain.chat.v1 import chat_pb2_grpc, conversation_pb2_grpc, feedback_pb2_grpc, receipt_pb2_grpc
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.events.log import open_event_log
from services.chassis.events.outbox import OutboxRelay
from services.chassis.lifecycle import Lifecycle
from services.chassis.moving.part import RoomPart
from services.chassis.rpc.client import connect
from services.chassis.rpc.replicas import connect_replicas
from services.chassis.rpc.server import RpcServer
from services.chassis.rpc.tls import tls_of
from services.chassis.telemetry import tracer
from services.chat.api.chat import ChatApi
from services.chat.api.conversations import ConversationApi
from services.chat.api.feedback import FeedbackApi
from services.chat.api.receipts import ReceiptApi
from services.chat.backends import generation, retrieval, tables
from services.chat.backends.announcements import ProtobufContent
from services.chat.backends.database import SqlRecords
from services.chat.backends.judgements import SqlJudgements, settle
from services.chat.backends.prompt_files import read_prompts
from services.chat.backends.system_clock import SystemClock
from services.chat.domain.citations import Thresholds
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.support import CALIBRATED
from services.chat.policy import POLICY
from services.chat.settings import ChatSettings
from services.chat.telemetry import Metrics
from services.chat.usecases.cite import Cite
from services.chat.usecases.comparing import DeleteComparison, GetComparison, ListComparisons, RankAnswers
from services.chat.usecases.conversations import DeleteConversation, GetConversation, ListConversations
from services.chat.usecases.exporting import ExportFeedback, MeasureAgreement
from services.chat.usecases.feedback import GetFeedback, GiveFeedback, ListFeedback, WithdrawFeedback
from services.chat.usecases.grounded import AnswerGrounded
from services.chat.usecases.grounds import FindGrounds, SayGrounded
from services.chat.usecases.judging import FindJudged, KeepJudgement, ReadableSources, RemoveLooseBlobs
from services.chat.usecases.keeping import KeepTurn
from services.chat.usecases.passages import FindPassages
from services.chat.usecases.prompting import FitPrompt
from services.chat.usecases.queries import MakeQueries
from services.chat.usecases.receipts import GetReceipt, ReplayReceipt
from services.chat.usecases.sampling import SampleAnswers
from services.chat.usecases.support import JudgeSupport
from services.chat.usecases.turn import AnswerTurn

_log = structlog.get_logger()


def moving(settings: ChatSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    return RoomPart(
        room="chat",
        database_url=settings.database_url,
        access=settings,
        migrations="services.chat.migrations",
        settle=settle,
    )


@dataclass(frozen=True, slots=True)
class _World:
    """What the room reaches: its own stores, its neighbours, the time."""

    records: SqlRecords
    judgements: SqlJudgements
    blobs: BlobStore
    library: retrieval.RemoteLibrary
    engine: generation.RemoteEngine
    clock: SystemClock
    metrics: Metrics
    spans: Tracer
    texts: PromptTexts


async def serve(settings: ChatSettings) -> None:
    """Run the room until a signal comes."""
    lifecycle = Lifecycle("chat")
    server = await build(settings, lifecycle, REGISTRY)
    address = await server.serve(lifecycle, drain_s=settings.drain_s)
    _log.info("room_ready", room="chat", address=address)
    await lifecycle.run_until_signal()


async def build(settings: ChatSettings, lifecycle: Lifecycle, registry: CollectorRegistry) -> RpcServer:
    """Return the room's server, joined and not yet started; what works beside it runs already."""
    world = await _world(settings, lifecycle, registry)
    remove_loose = RemoveLooseBlobs(judgements=world.judgements, blobs=world.blobs, clock=world.clock)
    lifecycle.spawn(_sweep(remove_loose, settings.sweep_interval_s), name="loose-blobs")
    answer_grounded = AnswerGrounded(
        engine=world.engine,
        cite=Cite(library=world.library, metrics=world.metrics, thresholds=Thresholds()),
        texts=world.texts,
        sure=CALIBRATED.sure,
        allowed_hosts=frozenset(host.lower() for host in settings.allowed_link_hosts),
    )
    find_grounds = FindGrounds(
        make_queries=MakeQueries(engine=world.engine, texts=world.texts),
        find_passages=FindPassages(library=world.library),
        judge_support=JudgeSupport(library=world.library, model=CALIBRATED),
        fit_prompt=FitPrompt(engine=world.engine, texts=world.texts),
    )
    say_grounded = SayGrounded(
        answer_grounded=answer_grounded,
        texts=world.texts,
        answerable=CALIBRATED.answer,
        temperature=settings.temperature,
        frequency_penalty=settings.frequency_penalty,
    )
    answer_turn = AnswerTurn(
        engine=world.engine,
        records=world.records,
        keep_turn=KeepTurn(records=world.records, texts=world.texts, clock=world.clock),
        find_grounds=find_grounds,
        say_grounded=say_grounded,
        most_history=settings.most_history,
        metrics=world.metrics,
        clock=world.clock,
        tracer=world.spans,
    )
    sample = SampleAnswers(
        engine=world.engine,
        judgements=world.judgements,
        find_grounds=find_grounds,
        say_grounded=say_grounded,
        temperature=settings.sample_temperature,
        metrics=world.metrics,
        clock=world.clock,
        tracer=world.spans,
    )
    get_receipt = GetReceipt(records=world.records, library=world.library)
    replay_receipt = ReplayReceipt(
        get_receipt=get_receipt,
        engine=world.engine,
        answer_grounded=answer_grounded,
        texts=world.texts,
        metrics=world.metrics,
        clock=world.clock,
        tracer=world.spans,
    )
    server = RpcServer.of(settings, room="chat", policy=POLICY, registry=registry)
    server.add(
        chat_pb2_grpc.add_ChatServiceServicer_to_server, ChatApi(answer_turn=answer_turn), "brain.chat.v1.ChatService"
    )
    server.add(
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server,
        ConversationApi(
            list_conversations=ListConversations(records=world.records),
            get_conversation=GetConversation(records=world.records),
            delete_conversation=DeleteConversation(records=world.records, remove_loose=remove_loose),
        ),
        "brain.chat.v1.ConversationService",
    )
    server.add(
        receipt_pb2_grpc.add_ReceiptServiceServicer_to_server,
        ReceiptApi(get_receipt=get_receipt, replay_receipt=replay_receipt),
        "brain.chat.v1.ReceiptService",
    )
    server.add(
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
        _feedback(world, sample=sample, remove_loose=remove_loose),
        "brain.chat.v1.FeedbackService",
    )
    return server


async def _world(settings: ChatSettings, lifecycle: Lifecycle, registry: CollectorRegistry) -> _World:
    tls = tls_of(settings)
    metrics = Metrics(registry)
    database = Database(settings.database_url, access=settings)
    lifecycle.on_stop(database.close, name="database")
    await migrate(database, "services.chat.migrations")
    log = open_event_log(settings.events_url, access=settings)
    lifecycle.on_stop(log.close, name="events")
    relay = OutboxRelay(database=database, table=tables.outbox, log=log, oldest_pending=metrics.oldest_pending)
    lifecycle.spawn(relay.run(), name="outbox")
    to_retrieval = connect(settings.retrieval_address, idempotent=retrieval.IDEMPOTENT, tls=tls)
    to_generation = connect_replicas(settings.generation_address, idempotent=generation.IDEMPOTENT, tls=tls)
    lifecycle.on_stop(to_retrieval.close, name="retrieval")
    lifecycle.on_stop(to_generation.close, name="generation")
    return _World(
        records=SqlRecords(database, on_kept=relay.wake),
        judgements=SqlJudgements(database, on_kept=relay.wake),
        blobs=open_blobs(settings.blobs_url),
        library=retrieval.RemoteLibrary(to_retrieval, top_k=settings.top_k, timeout_s=settings.search_timeout_s),
        engine=generation.RemoteEngine(
            to_generation,
            call_timeout_s=settings.search_timeout_s,
            first_token_timeout_s=settings.first_token_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
        ),
        clock=SystemClock(),
        metrics=metrics,
        spans=tracer("brain.chat"),
        texts=read_prompts(),
    )


def _feedback(world: _World, *, sample: SampleAnswers, remove_loose: RemoveLooseBlobs) -> FeedbackApi:
    judgements, clock, metrics = world.judgements, world.clock, world.metrics
    readable = ReadableSources(library=world.library)
    find_judged = FindJudged(records=world.records, judgements=judgements, readable=readable)
    keep = KeepJudgement(
        judgements=judgements,
        blobs=world.blobs,
        form=ProtobufContent(),
        remove_loose=remove_loose,
        metrics=metrics,
        clock=clock,
    )
    get_comparison = GetComparison(judgements=judgements, readable=readable)
    return FeedbackApi(
        give=GiveFeedback(records=world.records, keep=keep, clock=clock),
        get=GetFeedback(judgements=judgements, find_judged=find_judged),
        list_all=ListFeedback(judgements=judgements, find_judged=find_judged),
        withdraw=WithdrawFeedback(judgements=judgements, remove_loose=remove_loose, metrics=metrics),
        export=ExportFeedback(
            judgements=judgements, find_judged=find_judged, readable=readable, metrics=metrics, clock=clock
        ),
        measure=MeasureAgreement(judgements=judgements),
        sample=sample,
        list_comparisons=ListComparisons(judgements=judgements, readable=readable),
        get_comparison=get_comparison,
        rank=RankAnswers(get_comparison=get_comparison, keep=keep, clock=clock),
        delete_comparison=DeleteComparison(judgements=judgements, remove_loose=remove_loose, metrics=metrics),
    )


async def _sweep(remove_loose: RemoveLooseBlobs, interval_s: float) -> None:
    while True:
        await remove_loose()
        await asyncio.sleep(interval_s)
