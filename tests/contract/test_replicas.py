"""Replicas of a room on one database: what they do in the same moment comes out as if one had come after the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, func, select

from services.chassis.auth import Caller, Role
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import NotFound
from services.chassis.events.log import new_envelope, open_event_log
from services.chassis.events.outbox import Outbox, OutboxRelay, outbox_table
from services.chassis.jobs.table import JobTable, jobs_table
from services.chat.backends import tables as chat_tables
from services.chat.backends.database import SqlRecords
from services.chat.backends.judgements import SqlJudgements
from services.chat.domain.announcements import AnswerGiven, AnswerOutcome
from services.chat.domain.feedback import Feedback, FeedbackKind, Judgement
from services.chat.domain.receipts import Conversation, Receipt, StoredTurn
from services.chat.domain.turn import Abstention, RewriteMethod, Sampling, TokenUsage
from services.ingestion.backends import tables as ingestion_tables
from services.ingestion.backends.database import SqlLedger
from services.ingestion.backends.media_types import detect
from services.ingestion.domain.blobs import file_key
from services.ingestion.domain.documents import Document, DocumentState, Version
from services.ingestion.domain.files import File, Purpose
from services.ingestion.domain.text import Chunking
from services.ingestion.usecases.receiving import Intake, Received, release
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox as retrieval_outbox
from services.retrieval.domain import ChunkedVersion
from tests.fresh_databases import make_tables
from tests.live_index import enter_live_index

# Enough for two that race to meet in different places.
ROUNDS = 12
AT = datetime(2026, 11, 1, tzinfo=UTC)
ANNA = Caller("anna", "acme", frozenset(), frozenset({Role.CONTRIBUTOR}))
GIVEN = AnswerGiven("resp_1", "rcpt_1", "base", "base", AnswerOutcome.ANSWERED, ())
RECEIPT = Receipt(
    id="rcpt_1",
    response_id="resp_1",
    conversation_id="conv_1",
    tenant="acme",
    owner="anna",
    created_at=AT,
    model="base",
    asked_model="base",
    instructions="",
    history=(),
    question="Q?",
    standalone="Q?",
    answer="A.",
    queries=(),
    method=RewriteMethod.NONE,
    sources=(),
    citations=(),
    prompt_hash="ab",
    prompt_version="2",
    grounded=False,
    strict=True,
    sampling=Sampling(),
    usage=TokenUsage(),
    abstention=Abstention.NONE,
    timings={},
    trimmed=(),
    collection_ids=(),
    support=0.0,
    excerpts=(),
)


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[list[Database]]:
    opened = [Database(database_url) for _ in range(2)]
    yield opened
    for one in opened:
        await one.close()


def no_news() -> None:
    """Nobody waits for what was told."""


async def test_relays_of_two_replicas_keep_the_order_of_events(replicas: list[Database], tmp_path: Path) -> None:
    metadata = MetaData()
    table = outbox_table(metadata)
    await make_tables(replicas[0], metadata)
    log = open_event_log(f"sqlite:///{tmp_path}/events.db")
    # On SQLite one process carries the role.
    relays = [OutboxRelay(database=one, table=table, log=log, poll_s=0.01) for one in replicas]
    running = [asyncio.create_task(one.run()) for one in relays[: 1 if "sqlite" in replicas[0].url else 2]]
    keys = [f"{number:04}" for number in range(600)]
    for first in range(0, len(keys), 50):
        async with replicas[0].begin() as connection:
            for key in keys[first : first + 50]:
                envelope = new_envelope(tenant="acme", type="cooked", key=key, payload=b"")
                await Outbox(table).add(connection, "brain.kitchen.v1", envelope)
    heard: list[str] = []
    async with asyncio.timeout(60):
        while len(heard) < len(keys):
            records = await log.read("brain.kitchen.v1", "g", limit=1000, wait_s=0.1)
            heard += [record.envelope.key for record in records]
            if records:
                await log.commit("g", records[-1])
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await log.close()
    assert heard == keys


async def test_a_job_is_handed_to_one_replica(replicas: list[Database]) -> None:
    metadata = MetaData()
    table = jobs_table(metadata)
    await make_tables(replicas[0], metadata)
    tables = [JobTable(one, table) for one in replicas]
    async with replicas[0].begin() as connection:
        for number in range(20):
            await tables[0].enqueue(connection, kind="parse", key=f"doc_{number}", tenant="acme", payload={})

    async def work(jobs: JobTable) -> list[str]:
        done: list[str] = []
        while (job := await jobs.claim("w", ["parse"], lease_s=60)) is not None:
            done.append(job.key)
        return done

    found = await asyncio.gather(*(work(jobs) for jobs in tables * 2))
    keys = [key for some in found for key in some]
    # One that finds what the others are taking may come away with nothing; what is left is for the next look.
    keys += await work(tables[0])
    assert sorted(keys) == sorted(f"doc_{number}" for number in range(20))


async def test_a_conversation_that_is_deleted_while_a_turn_is_kept_leaves_nothing(replicas: list[Database]) -> None:
    await migrate(replicas[0], "services.chat.migrations")
    ones, others = (SqlRecords(one, on_kept=no_news) for one in replicas)
    judgements = SqlJudgements(replicas[1], on_kept=no_news)
    turn = StoredTurn("user", "Q?", "rcpt_1", AT)
    for number in range(ROUNDS):
        conversation = Conversation(f"conv_{number}", "Soup\0", AT, AT)
        first = replace(RECEIPT, id=f"rcpt_{number}_1", conversation_id=conversation.id)
        await ones.save(first, conversation=conversation, turns=[turn], given=GIVEN, tenant="acme", owner="anna")
        second = replace(first, id=f"rcpt_{number}_2")
        thumb = Feedback(
            id=f"fb_{number}",
            tenant="acme",
            rater="user:anna",
            created_at=AT,
            said=Judgement(FeedbackKind.THUMB_UP),
            receipt_id=first.id,
            comparison_id="",
            model="base",
            asked_model="base",
            blob_key=f"blob_{number}",
            unit=first.id,
            collection_ids=(),
            sources=(),
        )
        grown = replace(conversation, turns=(turn,))
        found = await asyncio.gather(
            ones.save(second, conversation=grown, turns=[turn], given=GIVEN, tenant="acme", owner="anna"),
            judgements.give(thumb),
            others.delete_conversation(conversation.id, tenant="acme", owner="anna"),
            return_exceptions=True,
        )
        assert [one for one in found if isinstance(one, BaseException) and not isinstance(one, NotFound)] == []
    async with replicas[0].connect() as connection:
        for table in (chat_tables.conversations, chat_tables.turns, chat_tables.receipts, chat_tables.feedback):
            assert await connection.scalar(select(func.count()).select_from(table)) == 0, table.name


async def test_a_judgement_is_withdrawn_once(replicas: list[Database]) -> None:
    await migrate(replicas[0], "services.chat.migrations")
    records, desks = SqlRecords(replicas[0], on_kept=no_news), [SqlJudgements(one, on_kept=no_news) for one in replicas]
    await records.save(RECEIPT, conversation=None, turns=(), given=GIVEN, tenant="acme", owner="anna")
    for number in range(ROUNDS):
        thumb = Feedback(
            id=f"fb_{number}",
            tenant="acme",
            rater="user:anna",
            created_at=AT,
            said=Judgement(FeedbackKind.THUMB_UP),
            receipt_id="rcpt_1",
            comparison_id="",
            model="base",
            asked_model="base",
            blob_key=f"blob_{number}",
            unit="rcpt_1",
            collection_ids=("vs_1",),
            sources=(),
        )
        await desks[0].give(thumb)
        found = await asyncio.gather(*(desk.withdraw(thumb.id, tenant="acme") for desk in desks))
        assert sorted(found) == [False, True]


def ledger(database: Database) -> SqlLedger:
    return SqlLedger(
        database,
        jobs=JobTable(database, ingestion_tables.jobs),
        outbox=Outbox(ingestion_tables.outbox),
        on_kept=no_news,
    )


def document(document_id: str, collection_id: str) -> Document:
    version = Version(
        document_id=document_id,
        number=1,
        file_id="file-1",
        filename="soup.txt",
        digest="d",
        size_bytes=1,
        media_type="text/plain",
        title="",
        chunking=Chunking(100, 10),
        state=DocumentState.RECEIVED,
        received_at=1.0,
        updated_at=1.0,
    )
    return Document(
        document_id=document_id,
        tenant="acme",
        collection_id=collection_id,
        key=document_id,
        owner="anna",
        principals=(),
        access_revision=1,
        attributes={},
        attributes_revision=1,
        active_version=0,
        deleting=False,
        created_at=1.0,
        updated_at=1.0,
        newest=version,
    )


async def test_a_collection_that_is_removed_takes_no_document(replicas: list[Database]) -> None:
    await migrate(replicas[0], "services.ingestion.migrations")
    ones, others = (ledger(one) for one in replicas)
    empty = {"tenant": "acme", "owner": "anna", "name": "", "metadata": {}, "default_principals": []}
    times = {"max_tokens": 9, "overlap_tokens": 1, "expires_after_days": 0, "created_at": 1.0, "last_active_at": 1.0}

    async def add(collection_id: str, number: int) -> bool:
        async with ones.change() as change:
            if await change.collection("acme", collection_id) is None:
                return False
            await change.add_document(document(f"doc_{collection_id}_{number}", collection_id))
            await change.touch_collection(collection_id, 2.0)
        return True

    async def remove(collection_id: str) -> bool:
        async with others.change() as change:
            await change.hold_collection(collection_id)
            if await change.documents_in("acme", collection_id):
                return False
            await change.remove_collection(collection_id)
        return True

    for number in range(ROUNDS):
        name = f"vs_{number}"
        async with replicas[0].begin() as connection:
            await connection.execute(ingestion_tables.collections.insert().values(collection_id=name, **empty, **times))
        *added, removed = await asyncio.gather(add(name, 1), add(name, 2), remove(name))
        assert removed is (not any(added)), (added, removed)


@pytest.fixture
def blobs() -> BlobStore:
    return open_blobs("memory://")


async def test_bytes_that_somebody_keeps_are_not_removed(replicas: list[Database], blobs: BlobStore) -> None:
    await migrate(replicas[0], "services.ingestion.migrations")
    ones, others = (ledger(one) for one in replicas)
    intake = Intake(blobs=blobs, detect_type=detect)

    async def keep(number: int, digest: str) -> None:
        received = Received(key=f"uploads/{number}", size_bytes=4, digest=digest, media_type="text/plain")
        await blobs.put(received.key, b"soup")
        async with ones.change() as change:
            file = received.file(ANNA, filename="soup.txt", purpose=Purpose.USER_DATA, now=1.0)
            await intake.keep(change, file, received)

    async def forget(file: File) -> None:
        async with others.change() as change:
            await change.remove_file(file)
            await release(change, blobs, "acme", file.digest)

    for number in range(ROUNDS):
        digest = f"{number:064}"
        await keep(2 * number, digest)
        async with replicas[0].connect() as connection:
            files = ingestion_tables.files
            (row,) = (await connection.execute(select(files.c.file_id).where(files.c.digest == digest))).all()
        before = await ones.file("acme", row.file_id)
        assert before is not None
        await asyncio.gather(keep(2 * number + 1, digest), forget(before))
        assert await blobs.get(file_key("acme", digest)) == b"soup"
        async with others.change() as change:
            assert await change.content("acme", [digest]) == {digest}


async def test_replicas_that_index_the_same_documents_do_not_block_each_other(
    replicas: list[Database], tmp_path: Path
) -> None:
    await migrate(replicas[0], "services.retrieval.migrations")
    await enter_live_index(replicas[0], "chunks")
    log = open_event_log(f"sqlite:///{tmp_path}/events.db")
    registers = [SqlRegister(one, relay=OutboxRelay(database=one, table=retrieval_outbox, log=log)) for one in replicas]

    def chunked(number: int, version: int) -> ChunkedVersion:
        return ChunkedVersion(
            "acme", f"doc_{number:02}", "vs_1", version, "file-1", "soup.txt", "", "text", "chunks", {}, (), version, ()
        )

    for version in range(1, ROUNDS + 1):
        some = [chunked(number, version) for number in range(20)]
        first, second = await asyncio.gather(
            registers[0].activate(some, index="chunks"), registers[1].activate(some[::-1], index="chunks")
        )
        # Each is flipped and told of once.
        assert len(first) + len(second) == len(first | second) == 20
    states = await registers[0].look_up("acme", [f"doc_{number:02}" for number in range(20)])
    assert {state.active_version for state in states.values()} == {ROUNDS}
    await log.close()
