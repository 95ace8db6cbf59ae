"""Conversations and receipts in SQL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row, delete, func, insert, select, update

from services.chassis.database import Database, hold
from services.chassis.errors import NotFound
from services.chat.backends.announcements import announce
from services.chat.backends.judgements import withdraw_all
from services.chat.backends.tables import conversations, feedback, receipts, turns
from services.chat.domain.announcements import AnswerGiven
from services.chat.domain.receipts import (
    CitationRecord,
    Conversation,
    EvidenceRecord,
    Receipt,
    SourceRecord,
    Span,
    StoredTurn,
)
from services.chat.domain.turn import Abstention, Message, RewriteMethod, Sampling, TokenUsage


class SqlRecords:
    """The records in the room's own database.

    Args:
        database: The database, at the newest version of its tables.
        on_kept: Called after each transaction that was kept and told something.
    """

    def __init__(self, database: Database, *, on_kept: Callable[[], None]) -> None:
        self._database = database
        self._on_kept = on_kept

    async def save(
        self,
        receipt: Receipt | None,
        *,
        conversation: Conversation | None,
        turns: Sequence[StoredTurn],
        given: AnswerGiven,
        tenant: str,
        owner: str,
    ) -> None:
        """Keep a receipt and the turns, and tell of it, in one transaction.

        Raises:
            NotFound: The conversation was removed meanwhile.
        """
        async with self._database.begin() as connection:
            if conversation is not None:
                changed = await connection.execute(
                    update(conversations)
                    .where(*_owned(conversation.id, tenant, owner))
                    .values(updated_at=conversation.updated_at)
                )
                if not changed.rowcount and conversation.turns:
                    raise NotFound(f"No conversation {conversation.id!r}.", param="conversation_id")
                if not changed.rowcount:
                    await connection.execute(
                        insert(conversations).values(
                            id=conversation.id,
                            tenant=tenant,
                            owner=owner,
                            title=_text(conversation.title),
                            created_at=conversation.created_at,
                            updated_at=conversation.updated_at,
                        )
                    )
                rows = [
                    asdict(turn) | {"conversation_id": conversation.id, "content": _text(turn.content)}
                    for turn in turns
                ]
                await connection.execute(insert(_turns), rows)
            if receipt is not None:
                await connection.execute(
                    insert(receipts).values(
                        id=receipt.id,
                        tenant=tenant,
                        owner=owner,
                        conversation_id=receipt.conversation_id,
                        created_at=receipt.created_at,
                        body=orjson.dumps(receipt),
                    )
                )
            await announce(connection, tenant, given)
        self._on_kept()

    async def tell(self, given: AnswerGiven, *, tenant: str) -> None:
        """Tell other rooms of a turn that left nothing."""
        async with self._database.begin() as connection:
            await announce(connection, tenant, given)
        self._on_kept()

    async def conversation(self, conversation_id: str, *, tenant: str, owner: str) -> Conversation | None:
        """Return a conversation of its owner with its turns."""
        async with self._database.connect() as connection:
            row = (
                await connection.execute(select(conversations).where(*_owned(conversation_id, tenant, owner)))
            ).first()
            if row is None:
                return None
            found = await connection.execute(
                select(turns).where(turns.c.conversation_id == conversation_id).order_by(turns.c.id)
            )
            said = tuple(
                StoredTurn(turn.role, turn.content, turn.receipt_id, _utc(turn.created_at)) for turn in found.all()
            )
        return _conversation(row, said)

    async def conversations(self, *, tenant: str, owner: str, limit: int, after: str) -> list[Conversation]:
        """Return conversations without turns, newest first; ids sort by time."""
        query = select(conversations).where(conversations.c.tenant == tenant, conversations.c.owner == owner)
        if after:
            query = query.where(conversations.c.id < after)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.order_by(conversations.c.id.desc()).limit(limit))).all()
        return [_conversation(row, ()) for row in rows]

    async def delete_conversation(self, conversation_id: str, *, tenant: str, owner: str) -> tuple[int, int] | None:
        """Remove a conversation with its turns, its receipts and what was said of them; turns and receipts are counted."""
        async with self._database.begin() as connection:
            # A turn that is being kept comes before or finds nothing; the same for what is said of its receipts.
            owned = select(conversations.c.id).where(*_owned(conversation_id, tenant, owner)).with_for_update()
            if (await connection.execute(owned)).first() is None:
                return None
            its = select(receipts.c.id).where(
                receipts.c.conversation_id == conversation_id, receipts.c.tenant == tenant
            )
            await hold(connection, its.order_by(receipts.c.id).with_for_update())
            count = select(func.count()).select_from(turns).where(turns.c.conversation_id == conversation_id)
            turn_count = (await connection.execute(count)).scalar_one()
            await withdraw_all(connection, tenant, feedback.c.subject_id.in_(its))
            gone = await connection.execute(
                delete(receipts).where(receipts.c.conversation_id == conversation_id, receipts.c.tenant == tenant)
            )
            await connection.execute(delete(turns).where(turns.c.conversation_id == conversation_id))
            await connection.execute(delete(conversations).where(*_owned(conversation_id, tenant, owner)))
        self._on_kept()
        return turn_count, gone.rowcount

    async def receipt(self, receipt_id: str, *, tenant: str) -> Receipt | None:
        """Return a receipt of the tenant."""
        async with self._database.connect() as connection:
            query = select(receipts.c.body).where(receipts.c.id == receipt_id, receipts.c.tenant == tenant)
            body = (await connection.execute(query)).scalar()
        return None if body is None else _receipt(orjson.loads(body))

    async def receipts(self, receipt_ids: Sequence[str], *, tenant: str) -> Mapping[str, Receipt]:
        """Return those of the receipts that are there."""
        query = select(receipts.c.body).where(receipts.c.id.in_(receipt_ids), receipts.c.tenant == tenant)
        async with self._database.connect() as connection:
            found = [_receipt(orjson.loads(row.body)) for row in (await connection.execute(query)).all()]
        return {one.id: one for one in found}


# `turns` is also the name of an argument that the port gives.
_turns = turns


def _owned(conversation_id: str, tenant: str, owner: str) -> tuple[Any, Any, Any]:
    return (
        conversations.c.id == conversation_id,
        conversations.c.tenant == tenant,
        conversations.c.owner == owner,
    )


def _text(said: str) -> str:
    # PostgreSQL's texts hold no NUL; an answer that was given must not be lost for one.
    return said.replace("\0", "\ufffd")


def _utc(moment: datetime) -> datetime:
    # SQLite forgets the zone; what is written is always UTC.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _conversation(row: Row[Any], said: tuple[StoredTurn, ...]) -> Conversation:
    return Conversation(row.id, row.title, _utc(row.created_at), _utc(row.updated_at), said)


def _receipt(body: dict[str, Any]) -> Receipt:
    body["created_at"] = datetime.fromisoformat(body["created_at"])
    body["history"] = tuple(Message(**message) for message in body["history"])
    body["method"] = RewriteMethod(body["method"])
    body["sources"] = tuple(SourceRecord(**(source | {"span": Span(**source["span"])})) for source in body["sources"])
    body["citations"] = tuple(
        CitationRecord(one["start"], one["end"], tuple(EvidenceRecord(**evidence) for evidence in one["evidence"]))
        for one in body["citations"]
    )
    body["sampling"] = Sampling(**(body["sampling"] | {"stop": tuple(body["sampling"]["stop"])}))
    body["usage"] = TokenUsage(**body["usage"])
    body["abstention"] = Abstention(body["abstention"])
    # Receipts of before have none.
    body["excerpts"] = tuple(Span(**span) for span in body.get("excerpts", ()))
    for name in ("queries", "trimmed", "collection_ids"):
        body[name] = tuple(body[name])
    return Receipt(**body)
