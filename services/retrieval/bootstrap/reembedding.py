"""The commands that change the embedder: they run once, beside the room's processes, and end."""

import asyncio
import signal
import sys
from typing import Final, Self

import structlog
from prometheus_client import REGISTRY
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.chassis.ids import new_id
from services.chassis.lifecycle import Lifecycle
from services.retrieval.backends.chunk_blobs import ChunkBlobs
from services.retrieval.backends.index_table import SqlIndexTable
from services.retrieval.bootstrap.models import open_models
from services.retrieval.bootstrap.shelves import open_shelf
from services.retrieval.domain import Analyser, IndexState
from services.retrieval.settings import RetrievalSettings
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases import Progress, Reembed, RemoveIndex

__all__ = ["reembed", "remove"]

_log = structlog.get_logger()
# Between two lines that say how far it is.
_SAID_S: Final = 10.0


async def reembed(settings: RetrievalSettings) -> bool:
    """Build the index of `next_embedder_url` and make it live; return whether it came to that, or was stopped."""
    lifecycle = Lifecycle("retrieval")
    try:
        database = Database(settings.database_url, access=settings)
        lifecycle.on_stop(database.close, name="database")
        await migrate(database, "services.retrieval.migrations")
        models = await open_models(settings, lifecycle)
        with _Shown() as shown:
            work = Reembed(
                table=SqlIndexTable(database),
                shelf=open_shelf(settings),
                embedder=await models.embedders.next(),
                chunks=ChunkBlobs(open_blobs(settings.blobs_url)),
                analyser=Analyser(),
                metrics=Metrics(REGISTRY),
                holder=new_id("builder_"),
                batch_chunks=settings.index_batch_chunks,
                report=shown.show,
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, work.stop)
            return await work.run()
    finally:
        await lifecycle.stop()


async def remove(settings: RetrievalSettings, state: IndexState) -> None:
    """Remove the index that is being built, or the old one."""
    database = Database(settings.database_url, access=settings)
    try:
        await migrate(database, "services.retrieval.migrations")
        removing = RemoveIndex(table=SqlIndexTable(database), shelf=open_shelf(settings), holder=new_id("builder_"))
        await removing.run(state)
    finally:
        await database.close()


class _Shown:
    """How far it is: a bar for people, a line now and then for machines."""

    def __init__(self) -> None:
        self._said_at = float("-inf")
        self._bar = Bar(
            TextColumn("documents"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("documents", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        done = progress.documents - progress.pending
        self._bar.update(self._task, total=progress.documents, completed=done)
        now = asyncio.get_running_loop().time()
        if self._bar.disable and now - self._said_at >= _SAID_S:
            self._said_at = now
            _log.info("reembedding_goes_on", documents=progress.documents, pending=progress.pending)
