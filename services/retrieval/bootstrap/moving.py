"""How the room is exported and imported, by its settings."""

from functools import partial

from sqlalchemy import inspect

from services.chassis.database import Database
from services.chassis.lifecycle import Lifecycle
from services.chassis.moving.part import RoomPart
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.backends.moving import IndexBaggage, settle
from services.retrieval.backends.tables import index_documents, indexes
from services.retrieval.bootstrap.models import open_models
from services.retrieval.bootstrap.shelves import open_shelf
from services.retrieval.domain import IndexRecord, IndexState
from services.retrieval.settings import RetrievalSettings
from services.retrieval.usecases.serving import record_of

__all__ = ["moving"]


def moving(settings: RetrievalSettings) -> RoomPart:
    """Return how the room is exported and imported."""
    return RoomPart(
        room="retrieval",
        database_url=settings.database_url,
        access=settings,
        migrations="services.retrieval.migrations",
        # Where indexes stand, and what is being built, is each place's own.
        left_out=frozenset({indexes.name, index_documents.name}),
        settle=partial(settle, first_index=open_shelf(settings).first_name),
        baggage=partial(_baggage, settings),
    )


async def _baggage(settings: RetrievalSettings) -> IndexBaggage:
    life = Lifecycle("retrieval")
    database = Database(settings.database_url, access=settings)
    life.on_stop(database.close, name="database")
    record = await _live(database)
    if record is None:
        # Nobody has indexed anything here, or an earlier release did, which had one index.
        models = await open_models(settings, life)
        record = await record_of(await models.embedders.configured(), open_shelf(settings).first_name, IndexState.LIVE)
    index = await open_shelf(settings).open(record.name, dimension=record.dimension, create=True)
    life.on_stop(index.close, name="index")
    return IndexBaggage(database, index, record, closing=life.stop)


async def _live(database: Database) -> IndexRecord | None:
    """Return the live index; None where the tables say of none, or are not there yet."""
    async with database.connect() as connection:
        is_there = await connection.run_sync(lambda one: inspect(one).has_table(indexes.name))
    records = await SqlIndexTable(database).records() if is_there else []
    return next((record for record in records if record.state is IndexState.LIVE), None)
