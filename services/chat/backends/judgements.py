"""Judgements and comparisons in SQL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Executable, Row, and_, delete, exists, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.errors import Conflict, NotFound
from services.chassis.moving.part import Arrival
from services.chat.backends.announcements import announce
from services.chat.backends.tables import comparisons, feedback, feedback_collections, loose_blobs, receipts
from services.chat.domain.agreement import Rating
from services.chat.domain.announcements import FeedbackGiven, FeedbackWithdrawn
from services.chat.domain.comparisons import ComparedAnswer, Comparison
from services.chat.domain.feedback import (
    AnswerRank,
    Feedback,
    FeedbackFilter,
    FeedbackKind,
    JudgedSource,
    Judgement,
)
from services.chat.domain.turn import Message

__all__ = ["SqlJudgements", "settle", "withdraw_all"]

# Whatever belongs to nothing since then may go at once.
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_THUMB_VALUE: Final = {FeedbackKind.THUMB_UP: 1.0, FeedbackKind.THUMB_DOWN: 0.0}


async def withdraw_all(connection: AsyncConnection, tenant: str, which: ColumnElement[bool]) -> list[str]:
    """Forget judgements of a tenant and tell of each, in the transaction of `connection`; return their ids.

    Their blobs are loose from then on.
    """
    mine = and_(feedback.c.tenant == tenant, which)
    # Who withdraws the same in the same moment finds it gone, and does not tell of it a second time.
    held = select(feedback.c.id, feedback.c.blob_key).where(mine).order_by(feedback.c.id).with_for_update()
    rows = (await connection.execute(held)).all()
    gone = [row.id for row in rows]
    if not gone:
        return []
    await connection.execute(delete(feedback_collections).where(feedback_collections.c.feedback_id.in_(gone)))
    await connection.execute(delete(feedback).where(feedback.c.id.in_(gone)))
    await connection.execute(insert(loose_blobs), [{"key": row.blob_key, "since": _LONG_AGO} for row in rows])
    for feedback_id in gone:
        await announce(connection, tenant, FeedbackWithdrawn(feedback_id))
    return gone


async def settle(connection: AsyncConnection, arrival: Arrival) -> None:
    """Tell again, at a new place, of judgements that may not have been heard of; hearing of one twice changes nothing.

    Answers are not told again: those who count them would count them twice.
    """
    late = feedback.c.created_at >= datetime.fromtimestamp(arrival.since, UTC)
    for row in (await connection.execute(select(feedback).where(late).order_by(feedback.c.id))).all():
        await announce(connection, row.tenant, _given(_feedback(row)))


class SqlJudgements:
    """The judgements in the room's own database.

    Args:
        database: The database, at the newest version of its tables.
        on_kept: Called after each transaction that was kept and told something.
    """

    def __init__(self, database: Database, *, on_kept: Callable[[], None]) -> None:
        self._database = database
        self._on_kept = on_kept

    async def reserve(self, blob_key: str, at: datetime) -> None:
        """Note a blob that is about to be written."""
        async with self._database.begin() as connection:
            await connection.execute(insert(loose_blobs).values(key=blob_key, since=at))

    async def give(self, given: Feedback) -> str:
        """Keep a judgement in the place of an earlier one, and tell of both."""
        subjects = receipts if given.receipt_id else comparisons
        its = (subjects.c.id == given.subject_id, subjects.c.tenant == given.tenant)
        earlier = and_(
            feedback.c.subject_id == given.subject_id,
            feedback.c.rater == given.rater,
            feedback.c.family == given.said.kind.family,
        )
        try:
            async with self._database.begin() as connection:
                # What is judged stays until the judgement is kept, or its removal would leave that behind.
                held = select(subjects.c.id).where(*its).with_for_update(read=True, key_share=True)
                if (await connection.execute(held)).first() is None:
                    param = "receipt_id" if given.receipt_id else "comparison_id"
                    raise NotFound(f"{param}: {given.subject_id!r} was removed meanwhile.", param=param)
                replaced = await withdraw_all(connection, given.tenant, earlier)
                await connection.execute(insert(feedback).values(_feedback_row(given)))
                if given.collection_ids:
                    rows = [{"feedback_id": given.id, "collection_id": one} for one in given.collection_ids]
                    await connection.execute(insert(feedback_collections), rows)
                await connection.execute(delete(loose_blobs).where(loose_blobs.c.key == given.blob_key))
                await announce(connection, given.tenant, _given(given))
        except IntegrityError as error:
            raise Conflict("The same was judged by you in the same moment; try again.") from error
        self._on_kept()
        return replaced[0] if replaced else ""

    async def get(self, feedback_id: str, *, tenant: str) -> Feedback | None:
        """Return a judgement."""
        query = select(feedback).where(feedback.c.id == feedback_id, feedback.c.tenant == tenant)
        rows = await self._rows(query)
        return _feedback(rows[0]) if rows else None

    async def page(self, wanted: FeedbackFilter, *, tenant: str, limit: int, after: str) -> list[Feedback]:
        """Return judgements, newest first; ids sort by time."""
        query = select(feedback).where(*_matching(wanted, tenant))
        if after:
            query = query.where(feedback.c.id < after)
        return [_feedback(row) for row in await self._rows(query.order_by(feedback.c.id.desc()).limit(limit))]

    async def ratings(self, wanted: FeedbackFilter, *, tenant: str) -> list[Rating]:
        """Return what raters gave, oldest first."""
        query = select(feedback).where(*_matching(wanted, tenant)).order_by(feedback.c.id)
        return [rating for row in await self._rows(query) for rating in _ratings(_feedback(row))]

    async def withdraw(self, feedback_id: str, *, tenant: str) -> bool:
        """Forget a judgement."""
        async with self._database.begin() as connection:
            gone = await withdraw_all(connection, tenant, feedback.c.id == feedback_id)
        self._on_kept()
        return bool(gone)

    async def add_comparison(self, comparison: Comparison) -> None:
        """Keep a comparison."""
        row = {
            "id": comparison.id,
            "tenant": comparison.tenant,
            "owner": comparison.owner,
            "created_at": comparison.created_at,
            "body": orjson.dumps(comparison),
        }
        async with self._database.begin() as connection:
            await connection.execute(insert(comparisons).values(row))

    async def comparison(self, comparison_id: str, *, tenant: str) -> Comparison | None:
        """Return a comparison."""
        return (await self.comparisons([comparison_id], tenant=tenant)).get(comparison_id)

    async def comparisons(self, comparison_ids: Sequence[str], *, tenant: str) -> Mapping[str, Comparison]:
        """Return those of the comparisons that are there."""
        query = select(comparisons.c.body).where(comparisons.c.id.in_(comparison_ids), comparisons.c.tenant == tenant)
        found = [_comparison(row.body) for row in await self._rows(query)]
        return {one.id: one for one in found}

    async def unranked(
        self, rater: str, *, tenant: str, collection_id: str, limit: int, after: str
    ) -> list[Comparison]:
        """Return comparisons that a rater has not ranked, newest first."""
        ranked = exists().where(feedback.c.subject_id == comparisons.c.id, feedback.c.rater == rater)
        query = select(comparisons.c.body).where(comparisons.c.tenant == tenant, ~ranked)
        if after:
            query = query.where(comparisons.c.id < after)
        found: list[Comparison] = []
        async with self._database.connect() as connection:
            rows = await connection.stream(query.order_by(comparisons.c.id.desc()))
            async for row in rows:
                one = _comparison(row.body)
                if not collection_id or collection_id in one.collection_ids:
                    found.append(one)
                if len(found) == limit:
                    break
            await rows.close()
        return found

    async def delete_comparison(self, comparison_id: str, *, tenant: str) -> int | None:
        """Forget a comparison with its rankings."""
        its = (comparisons.c.id == comparison_id, comparisons.c.tenant == tenant)
        async with self._database.begin() as connection:
            if not (await connection.execute(delete(comparisons).where(*its))).rowcount:
                return None
            gone = await withdraw_all(connection, tenant, feedback.c.subject_id == comparison_id)
        self._on_kept()
        return len(gone)

    async def ranking(self, comparison_id: str, rater: str, *, tenant: str) -> str:
        """Return the id of a rater's ranking."""
        query = select(feedback.c.id).where(
            feedback.c.subject_id == comparison_id, feedback.c.rater == rater, feedback.c.tenant == tenant
        )
        rows = await self._rows(query)
        return str(rows[0].id) if rows else ""

    async def loose(self, before: datetime) -> list[str]:
        """Return the keys of blobs that belong to nothing."""
        rows = await self._rows(select(loose_blobs.c.key).where(loose_blobs.c.since < before))
        return [row.key for row in rows]

    async def settled(self, blob_keys: Iterable[str]) -> None:
        """Forget loose blobs that are gone."""
        async with self._database.begin() as connection:
            await connection.execute(delete(loose_blobs).where(loose_blobs.c.key.in_(list(blob_keys))))

    async def _rows(self, query: Executable) -> Sequence[Row[Any]]:
        async with self._database.connect() as connection:
            return (await connection.execute(query)).all()


def _matching(wanted: FeedbackFilter, tenant: str) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [feedback.c.tenant == tenant]
    if wanted.kinds:
        found.append(feedback.c.kind.in_([kind.value for kind in wanted.kinds]))
    if wanted.collection_id:
        found.append(
            exists().where(
                feedback_collections.c.feedback_id == feedback.c.id,
                feedback_collections.c.collection_id == wanted.collection_id,
            )
        )
    if wanted.model:
        found.append(or_(feedback.c.model == wanted.model, feedback.c.asked_model == wanted.model))
    if wanted.rater:
        found.append(feedback.c.rater == wanted.rater)
    if wanted.since is not None:
        found.append(feedback.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(feedback.c.created_at < wanted.until)
    return found


def _given(one: Feedback) -> FeedbackGiven:
    return FeedbackGiven(
        feedback_id=one.id,
        kind=one.said.kind,
        receipt_id=one.receipt_id,
        model=one.model,
        asked_model=one.asked_model,
        blob_key=one.blob_key,
        collection_ids=one.collection_ids,
        sources=one.sources,
    )


def _feedback_row(one: Feedback) -> dict[str, Any]:
    return {
        "id": one.id,
        "tenant": one.tenant,
        "subject_id": one.subject_id,
        "rater": one.rater,
        "family": one.said.kind.family,
        "kind": one.said.kind.value,
        "model": one.model,
        "asked_model": one.asked_model,
        "created_at": one.created_at,
        "blob_key": one.blob_key,
        "body": orjson.dumps(one),
    }


def _feedback(row: Row[Any]) -> Feedback:
    body = orjson.loads(row.body)
    said = body["said"]
    ranks = tuple(AnswerRank(**rank) for rank in said["ranks"])
    body["said"] = Judgement(FeedbackKind(said["kind"]), said["comment"], said["edited"], ranks)
    body["created_at"] = datetime.fromisoformat(body["created_at"])
    body["collection_ids"] = tuple(body["collection_ids"])
    body["sources"] = tuple(JudgedSource(**source) for source in body["sources"])
    return Feedback(**body)


def _comparison(data: bytes) -> Comparison:
    body = orjson.loads(data)
    body["created_at"] = datetime.fromisoformat(body["created_at"])
    body["messages"] = tuple(Message(**message) for message in body["messages"])
    body["sources"] = tuple(JudgedSource(**source) for source in body["sources"])
    body["answers"] = tuple(ComparedAnswer(**answer) for answer in body["answers"])
    for name in ("collection_ids", "raters"):
        body[name] = tuple(body[name])
    return Comparison(**body)


def _ratings(one: Feedback) -> list[Rating]:
    if one.said.kind in _THUMB_VALUE:
        return [Rating(one.unit, one.rater, _THUMB_VALUE[one.said.kind])]
    return [Rating(f"{one.unit} {rank.answer_id}", one.rater, float(rank.rank), one.unit) for rank in one.said.ranks]
