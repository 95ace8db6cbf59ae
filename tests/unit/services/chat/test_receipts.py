"""Receipts: read under the rights of their reader, and replayed."""

from typing import Any

import pytest
from sqlalchemy import select

from brain.chat.v1 import chat_pb2, receipt_pb2
from services.chassis.database import Database
from services.chassis.errors import NotFound
from services.chat.backends.tables import metadata
from tests.unit.services.chat.perks import ANSWER, BERT, CHIEF, PERKS, QUESTION, STRANGER


async def test_a_receipt_resolves_under_the_readers_rights(room: Any, a_request: Any) -> None:
    heard = await room.ask(a_request(QUESTION))
    wanted = receipt_pb2.GetReceiptRequest(receipt_id=heard.finished.receipt_id)
    receipt = (await room.call(room.receipts.GetReceipt, wanted)).receipt
    assert receipt.question == QUESTION
    assert receipt.answer == ANSWER
    assert receipt.citations[0].evidence[0].quote == heard.citations[0].evidence[0].quote
    assert receipt.citations[0].answer_text == ANSWER
    cited = [source for source in receipt.sources if source.cited]
    assert [source.source.document_id for source in cited] == ["doc_perks"]
    assert cited[0].source.text == PERKS[1][10:]
    assert 0 < receipt.support <= 1

    assert (await room.call(room.receipts.GetReceipt, wanted, CHIEF)).receipt.answer == ANSWER
    for caller in (BERT, STRANGER):
        with pytest.raises(NotFound):
            await room.call(room.receipts.GetReceipt, wanted, caller)

    room.library.hidden_from["doc_perks"] = {"anna"}
    receipt = (await room.call(room.receipts.GetReceipt, wanted)).receipt
    (hidden,) = [source for source in receipt.sources if source.source.document_id == "doc_perks"]
    assert not hidden.available
    assert hidden.source.text == hidden.source.title == hidden.source.filename == ""
    assert receipt.citations[0].evidence[0].quote == ""


async def test_receipts_hold_no_document_text(room: Any, a_request: Any, database_url: str) -> None:
    room.engine.answers = lambda messages: "It is covered up to $1,000 per year for gym memberships."
    await room.ask(a_request(QUESTION))
    database = Database(database_url)
    async with database.connect() as connection:
        rows = [row for table in metadata.sorted_tables for row in await connection.execute(select(table))]
    await database.close()
    stored = b"".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)
    assert b"gym memberships" in stored
    assert b"yoga classes" not in stored
    assert b"Video games" not in stored


async def test_a_replay_builds_the_same_prompt_or_says_what_changed(room: Any, a_request: Any) -> None:
    heard = await room.ask(a_request(QUESTION))
    wanted = receipt_pb2.ReplayReceiptRequest(receipt_id=heard.finished.receipt_id)
    replay = await room.call(room.receipts.ReplayReceipt, wanted)
    assert replay.same_prompt
    assert replay.same_answer
    assert replay.answer == ANSWER
    assert replay.difference == ""

    del room.library.documents["doc_perks"]
    replay = await room.call(room.receipts.ReplayReceipt, wanted)
    assert not replay.same_prompt
    assert "gone" in replay.difference


async def test_a_replay_of_inline_documents_says_that_they_are_gone(room: Any, a_request: Any) -> None:
    room.engine.answers = lambda messages: "Lunch costs 7 euros."
    heard = await room.ask(
        a_request(
            "How much does lunch cost in euros?",
            collections=(),
            documents=[chat_pb2.InlineDocument(text="Lunch costs 7 euros.")],
        )
    )
    replay = await room.call(
        room.receipts.ReplayReceipt, receipt_pb2.ReplayReceiptRequest(receipt_id=heard.finished.receipt_id)
    )
    assert not replay.same_prompt
    assert "came with the request" in replay.difference
