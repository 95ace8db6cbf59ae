"""What a crash between a judgement's blob and its record leaves, and who removes it."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import NotFound, Unavailable
from services.chat.backends.announcements import ProtobufContent
from services.chat.backends.judgements import SqlJudgements
from services.chat.domain.feedback import Feedback, FeedbackKind, Judged, Judgement
from services.chat.telemetry import Metrics
from services.chat.usecases.judging import KeepJudgement, RemoveLooseBlobs


@dataclass
class Clock:
    """A time that a test moves."""

    at: datetime = field(default_factory=lambda: datetime(2026, 11, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def elapsed(self) -> float:
        return 0.0


@dataclass
class Shaky:
    """A blob store that is away when a test says so."""

    store: BlobStore
    is_away: bool = False

    async def put(self, key: str, data: bytes) -> None:
        await self.store.put(key, data)

    async def delete(self, keys: Iterable[str]) -> int:
        if self.is_away:
            raise Unavailable("The blob store is not available.")
        return await self.store.delete(keys)


@dataclass
class Desk:
    """What keeps and removes judgements, over a database and blobs in memory."""

    judgements: SqlJudgements
    blobs: Shaky
    clock: Clock

    @property
    def remove_loose(self) -> RemoveLooseBlobs:
        return RemoveLooseBlobs(judgements=self.judgements, blobs=self.blobs, clock=self.clock)

    @property
    def keep(self) -> KeepJudgement:
        return KeepJudgement(
            judgements=self.judgements,
            blobs=self.blobs,
            form=ProtobufContent(),
            remove_loose=self.remove_loose,
            metrics=Metrics(CollectorRegistry()),
            clock=self.clock,
        )


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    database = Database(database_url)
    await migrate(database, "services.chat.migrations")
    yield Desk(SqlJudgements(database, on_kept=lambda: None), Shaky(open_blobs("memory://")), Clock())
    await database.close()


def judged() -> Judged:
    """A thumb for an answer whose receipt is not there (any more)."""
    feedback = Feedback(
        id="fb_1",
        tenant="acme",
        rater="user:anna",
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        said=Judgement(FeedbackKind.THUMB_UP),
        receipt_id="rcpt_gone",
        comparison_id="",
        model="base",
        asked_model="base",
        collection_ids=(),
        sources=(),
        unit="u",
        blob_key="acme/feedback/fb_1.pb",
    )
    return Judged(feedback, (), "", ("An answer.",), (0,))


async def test_a_blob_without_a_record_is_removed_when_nobody_can_be_writing_it_any_more(desk: Desk) -> None:
    # The receipt went between the blob and the record, as after a crash between the two.
    with pytest.raises(NotFound):
        await desk.keep(judged())
    assert await desk.blobs.store.exists("acme/feedback/fb_1.pb")
    desk.clock.at += timedelta(minutes=59)
    await desk.remove_loose()
    assert await desk.blobs.store.exists("acme/feedback/fb_1.pb")
    desk.clock.at += timedelta(minutes=2)
    await desk.remove_loose()
    assert not await desk.blobs.store.exists("acme/feedback/fb_1.pb")
    assert await desk.judgements.loose(desk.clock.at) == []


async def test_what_cannot_be_removed_now_is_removed_later(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.keep(judged())
    desk.clock.at += timedelta(hours=2)
    desk.blobs.is_away = True
    await desk.remove_loose()
    assert await desk.judgements.loose(desk.clock.at) == ["acme/feedback/fb_1.pb"]
    desk.blobs.is_away = False
    await desk.remove_loose()
    assert not await desk.blobs.store.exists("acme/feedback/fb_1.pb")
    assert await desk.judgements.loose(desk.clock.at) == []
