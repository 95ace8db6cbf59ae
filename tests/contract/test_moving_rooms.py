"""What rooms say again at a new place, where nobody has heard of anything: what may be missed, and no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Float, Integer, LargeBinary, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

import services.chat.backends.tables as chat
import services.finetuning.backends.tables as finetuning
import services.ingestion.backends.tables as ingestion
from brain.events.v1 import adapter_pb2, document_pb2, feedback_pb2
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.jobs.table import JobTable
from services.chassis.moving.part import Arrival
from services.chat.backends import judgements
from services.chat.domain.feedback import Feedback, FeedbackKind, JudgedSource, Judgement
from services.finetuning.backends import moving as finetuning_moving
from services.finetuning.backends.records import ADAPTERS, ALIASES, PROMOTIONS
from services.finetuning.domain.adapters import AdapterStatus, AdapterVersion, Alias
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.promotions import Promotion, PromotionState
from services.ingestion.backends.moving import Settle

LONG_AGO, EXPORTED, LATE = 1_000.0, 5_000.0, 6_000.0
NOW = Arrival(since=EXPORTED)


@asynccontextmanager
async def at(url: str, package: str) -> AsyncIterator[Database]:
    database = Database(url)
    await migrate(database, f"{package}.migrations")
    yield database
    await database.close()


def value(table: Table, name: str) -> Any:
    kind = table.c[name].type
    empty: tuple[tuple[type, Any], ...] = ((Boolean, False), (JSON, []), (Integer, 0), (Float, 0.0), (LargeBinary, b""))
    return next((made for of, made in empty if isinstance(kind, of)), "")


async def put(connection: AsyncConnection, table: Table, **given: Any) -> None:
    """Add a row; what is not said is empty."""
    needed = [column.name for column in table.columns if not column.nullable and column.name not in given]
    await connection.execute(insert(table).values({name: value(table, name) for name in needed} | given))


async def document(connection: AsyncConnection, name: str, *versions: dict[str, Any], **given: Any) -> None:
    newest = len(versions)
    about: dict[str, Any] = {"document_id": name, "tenant": "acme", "owner": "ann", "collection_id": "vs", "key": name}
    about |= {"live_key": name, "access_revision": 1, "attributes_revision": 1, "updated_at": LONG_AGO}
    await put(connection, ingestion.documents, **(about | {"newest_version": newest} | given))
    for number, version in enumerate(versions, 1):
        row = {"document_id": name, "number": number, "tenant": "acme", "file_id": "f", "updated_at": LONG_AGO}
        await put(connection, ingestion.versions, **(row | version))


async def told(database: Database, outbox: Table) -> list[bytes]:
    async with database.connect() as connection:
        return [row.payload for row in await connection.execute(select(outbox).order_by(outbox.c.id))]


async def documents_told(database: Database) -> list[tuple[str, str, int]]:
    found = []
    for payload in await told(database, ingestion.outbox):
        event = document_pb2.DocumentEvent.FromString(payload)
        kind = str(event.WhichOneof("fact"))
        fact = getattr(event, kind)
        number = {
            "chunked": "version",
            "access_changed": "access_revision",
            "attributes_changed": "attributes_revision",
        }
        found.append((fact.document_id, kind, getattr(fact, number[kind]) if kind in number else 0))
    return found


async def test_documents_that_others_may_have_missed_are_announced_again(database_url: str) -> None:
    async with at(database_url, "services.ingestion") as database:
        async with database.begin() as connection:
            done = {"state": "indexed"}
            await document(connection, "a-done", done, active_version=1)
            await document(connection, "b-waits", done, {"state": "chunked", "chunk_count": 4}, active_version=1)
            await document(connection, "c-late", done | {"updated_at": LATE}, updated_at=LATE)
            await document(connection, "d-reading", {"state": "parsing", "updated_at": LATE})
            await document(connection, "e-opened", done, access_revision=3, principals=["group:hr"], updated_at=LATE)
            await document(connection, "f-opened-long-ago", done, access_revision=3)
            await document(connection, "g-labelled", done, attributes_revision=2)
            await document(connection, "h-going", {"state": "chunked"}, deleting=True, live_key=None)
            for name, completed in (("h-going", None), ("i-gone", LONG_AGO), ("j-gone-late", LATE)):
                await put(connection, ingestion.deletions, document_id=name, tenant="acme", completed_at=completed)
        async with database.begin() as connection:
            await Settle(open_blobs("memory://"))(connection, NOW)
        assert await documents_told(database) == [
            ("b-waits", "chunked", 2),
            ("c-late", "chunked", 1),
            ("e-opened", "access_changed", 3),
            ("g-labelled", "attributes_changed", 2),
            ("h-going", "deleted", 0),
            ("j-gone-late", "deleted", 0),
        ]
        fact = document_pb2.DocumentEvent.FromString((await told(database, ingestion.outbox))[0]).chunked
        assert (fact.chunks_blob_key, fact.text_blob_key) == ("acme/chunks/b-waits/2.pb", "acme/text/b-waits/2.txt")
        assert (fact.chunk_count, fact.access_revision, list(fact.principals)) == (4, 1, ["user:ann"])


async def test_without_vectors_everything_that_was_found_is_announced_and_waits(database_url: str) -> None:
    async with at(database_url, "services.ingestion") as database:
        async with database.begin() as connection:
            await document(connection, "a", {"state": "indexed"}, {"state": "indexed"}, active_version=2)
            await document(connection, "b", {"state": "indexed"}, {"state": "failed"}, active_version=1)
            await document(connection, "c", {"state": "failed"})
        async with database.begin() as connection:
            await Settle(open_blobs("memory://"))(connection, Arrival(since=EXPORTED, rebuild=True))
        assert await documents_told(database) == [("a", "chunked", 2), ("b", "chunked", 1)]
        async with database.connect() as connection:
            rows = await connection.execute(select(ingestion.versions).order_by(ingestion.versions.c.document_id))
            states = {(row.document_id, row.number): row.state for row in rows}
        assert states == {
            ("a", 1): "indexed",
            ("a", 2): "chunked",
            ("b", 1): "chunked",
            ("b", 2): "failed",
            ("c", 1): "failed",
        }


async def test_blobs_of_what_was_deleted_while_they_were_copied_go(database_url: str, tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    for key in ("text/gone/1.txt", "text/old/1.txt", "files/kept", "files/nobodys", "adapters/x"):
        await blobs.put(f"acme/{key}", b"x")
    await blobs.put("globex/files/theirs", b"x")
    async with at(database_url, "services.ingestion") as database:
        async with database.begin() as connection:
            await put(connection, ingestion.contents, tenant="acme", digest="kept")
            await put(connection, ingestion.deletions, document_id="gone", tenant="acme", completed_at=LATE)
        async with database.begin() as connection:
            await Settle(blobs)(connection, NOW)
    assert await blobs.list("") == ["acme/adapters/x", "acme/files/kept", "acme/text/old/1.txt", "globex/files/theirs"]


async def test_a_lease_of_the_old_place_holds_nobody_up_and_fences_grow(database_url: str) -> None:
    async with at(database_url, "services.ingestion") as database:
        table = JobTable(database, ingestion.jobs)
        async with database.begin() as connection:
            await table.enqueue(connection, kind="parse", key="doc", tenant="acme", payload={})
        first = await table.claim("old", ["parse"], lease_s=3_600)
        assert first is not None
        assert await table.claim("new", ["parse"], lease_s=3_600) is None
        async with database.begin() as connection:
            await Settle(open_blobs("memory://"))(connection, NOW)
        second = await table.claim("new", ["parse"], lease_s=3_600)
        assert second is not None
        assert (second.job_id, second.fence) == (first.job_id, first.fence + 1)


async def test_every_adapter_and_alias_is_announced_with_its_revision(database_url: str) -> None:
    async with at(database_url, "services.finetuning") as database:
        async with database.begin() as connection:
            for name, status in (("ft:a", AdapterStatus.PUBLISHED), ("ft:b", AdapterStatus.BLOCKED)):
                version = AdapterVersion(
                    name=name, tenant="acme", suffix="s", number=1, owner=Owner("ann", ("sales",), ("trainer",)),
                    created_at=1.0, status=status, config_key="c", weights_key="w", weights_digest="d", config_digest="e",
                    size_bytes=1, rank=4, base_model="base", base_digest="f", base_licence="", template_hash="g",
                    principals=("group:hr",), revision=7,
                )  # fmt: skip
                record = ADAPTERS.dump_python(version, mode="json")
                await put(connection, finetuning.adapters, tenant="acme", name=name, created_at=1.0, record=record)
            alias = ALIASES.dump_python(Alias("desk", "acme", "ft:a", 1.0, revision=3), mode="json")
            await put(connection, finetuning.aliases, tenant="acme", alias="desk", record=alias)
            for state in (PromotionState.GATED, PromotionState.PROMOTED):
                promotion = Promotion(state.value, "acme", "desk", "ft:b", "ft:a", state, 0.1, 20, "ann", 1.0)
                record = PROMOTIONS.dump_python(promotion, mode="json")
                row = {"promotion_id": state.value, "tenant": "acme", "alias": "desk", "state": state.value}
                await put(connection, finetuning.promotions, **row, record=record)
        async with database.begin() as connection:
            await finetuning_moving.settle(connection, NOW)
        events = [adapter_pb2.AdapterEvent.FromString(one) for one in await told(database, finetuning.outbox)]
    assert [(one.adapter.name, one.adapter.revision, one.adapter.status) for one in events[:2]] == [
        ("ft:a", 7, adapter_pb2.ADAPTER_STATUS_PUBLISHED),
        ("ft:b", 7, adapter_pb2.ADAPTER_STATUS_BLOCKED),
    ]
    assert (events[2].alias.alias, events[2].alias.target, events[2].alias.revision) == ("desk", "ft:a", 3)
    assert [one.promotion.promotion_id for one in events[3:]] == ["gated"]


async def test_judgements_of_the_last_moment_are_told_again(database_url: str) -> None:
    async with at(database_url, "services.chat") as database:
        async with database.begin() as connection:
            for name, given in (("early", LONG_AGO), ("late", LATE)):
                moment = datetime.fromtimestamp(given, UTC)
                one = Feedback(
                    name, "acme", "user:ann", moment, Judgement(FeedbackKind.THUMB_UP), f"rcpt_{name}", "", "m", "m", ("vs",),
                    (JudgedSource("doc", 1),), "unit", f"acme/{name}",
                )  # fmt: skip
                await connection.execute(insert(chat.feedback).values(judgements._feedback_row(one)))
        async with database.begin() as connection:
            await judgements.settle(connection, NOW)
        events = [feedback_pb2.FeedbackEvent.FromString(one) for one in await told(database, chat.outbox)]
    assert [(one.given.feedback_id, one.given.blob_key) for one in events] == [("late", "acme/late")]
