"""The ledger in a database: SQLite on one machine, PostgreSQL in a cluster."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Executable, Row, Select, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, upsert
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import Job, JobTable
from services.finetuning.backends import tables
from services.finetuning.backends.facts import ADAPTER_TOPIC, adapter_fact, alias_fact, promotion_fact
from services.finetuning.backends.records import (
    ADAPTERS,
    ALIASES,
    CHECKPOINTS,
    DATASETS,
    EVENTS,
    JOBS,
    PROMOTIONS,
    Records,
)
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.domain.adapters import AdapterSource, AdapterVersion, Alias, Withdrawal
from services.finetuning.domain.datasets import Dataset
from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.domain.jobs import Checkpoint, JobEvent, JobStatus, TuningJob
from services.finetuning.domain.promotions import Promotion
from services.finetuning.domain.webhooks import WebhookEvent

__all__ = ["SqlChange", "SqlLedger"]

_TOLD: Final = {
    JobStatus.SUCCEEDED: WebhookEvent.SUCCEEDED,
    JobStatus.FAILED: WebhookEvent.FAILED,
    JobStatus.CANCELLED: WebhookEvent.CANCELLED,
}


class SqlLedger(Records):
    """Records in the room's own database.

    Args:
        database: The database, migrated.
        jobs: Its job table.
        outbox: Its outbox.
        webhooks: Addresses that are told of jobs.
        on_kept: Called after each transaction that was kept: work or facts may wait.
    """

    def __init__(
        self,
        database: Database,
        *,
        jobs: JobTable,
        outbox: Outbox,
        webhooks: SqlWebhookStore,
        on_kept: Callable[[], None],
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._outbox = outbox
        self._webhooks = webhooks
        self._on_kept = on_kept

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds."""
        async with self._database.connect() as connection:
            return (await connection.execute(query)).all()

    @asynccontextmanager
    async def change(self) -> AsyncIterator["SqlChange"]:
        """Open a transaction; it is kept when the block ends and undone on an error."""
        # Many rules are about what is not there yet: no open promotion of an alias, the next number of a suffix.
        async with self._database.begin(alone=True) as connection:
            yield SqlChange(connection, jobs=self._jobs, outbox=self._outbox, webhooks=self._webhooks)
        self._on_kept()


class SqlChange(Records):
    """Writes records, in the transaction that `connection` is in.

    Args:
        connection: A connection in a write transaction.
        jobs: The room's job table.
        outbox: The room's outbox.
        webhooks: Addresses that are told of jobs.
    """

    def __init__(
        self, connection: AsyncConnection, *, jobs: JobTable, outbox: Outbox, webhooks: SqlWebhookStore
    ) -> None:
        self._connection = connection
        self._jobs = jobs
        self._outbox = outbox
        self._webhooks = webhooks

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds, as this transaction sees them."""
        return (await self._connection.execute(query)).all()

    def locked(self, query: Select[Any]) -> Select[Any]:
        """Return a query that keeps other transactions from changing what it finds until the end of this one."""
        return query.with_for_update()

    async def put_job(self, job: TuningJob) -> None:
        """Add a job or replace its record."""
        await self._put(
            tables.tuning_jobs,
            {"job_id": job.job_id},
            {
                "tenant": job.tenant,
                "owner": job.owner.subject,
                "status": job.status.value,
                "queued_at": job.queued_at,
                "waits_for": job.waits_for,
                "has_notes": bool(job.metadata),
                "record": JOBS.dump_python(job, mode="json"),
            },
        )

    async def add_event(self, tenant: str, event: JobEvent) -> None:
        """Note something that happened to a job."""
        row = {
            "event_id": event.event_id,
            "tenant": tenant,
            "job_id": event.job_id,
            "kind": event.kind,
            "record": EVENTS.dump_python(event, mode="json"),
        }
        await self._connection.execute(insert(tables.events).values(row))

    async def add_checkpoint(self, tenant: str, checkpoint: Checkpoint) -> None:
        """Note a checkpoint."""
        row = {
            "checkpoint_id": checkpoint.checkpoint_id,
            "tenant": tenant,
            "job_id": checkpoint.job_id,
            "record": CHECKPOINTS.dump_python(checkpoint, mode="json"),
        }
        await self._connection.execute(insert(tables.checkpoints).values(row))

    async def remove_checkpoints(self, checkpoint_ids: Sequence[str]) -> None:
        """Forget checkpoints."""
        table = tables.checkpoints
        await self._connection.execute(delete(table).where(table.c.checkpoint_id.in_(list(checkpoint_ids))))

    async def put_adapter(self, version: AdapterVersion) -> None:
        """Add an adapter or replace its record."""
        await self._put(
            tables.adapters,
            {"tenant": version.tenant, "name": version.name},
            {
                "suffix": version.suffix,
                "number": version.number,
                "status": version.status.value,
                "job_id": version.job_id,
                "created_at": version.created_at,
                "record": ADAPTERS.dump_python(version, mode="json"),
            },
        )

    async def next_version(self, tenant: str, suffix: str) -> int:
        """Return the number of the next version of a suffix."""
        adapters = tables.adapters
        query = select(func.max(adapters.c.number)).where(adapters.c.tenant == tenant, adapters.c.suffix == suffix)
        return int((await self._connection.execute(query)).scalar() or 0) + 1

    async def put_sources(self, tenant: str, name: str, sources: Sequence[AdapterSource]) -> None:
        """Replace what an adapter is said to have learned from."""
        table = tables.adapter_sources
        await self._connection.execute(delete(table).where(table.c.tenant == tenant, table.c.name == name))
        if sources:
            await self._connection.execute(
                insert(table),
                [
                    {
                        "tenant": tenant,
                        "name": name,
                        "kind": source.kind,
                        "source_id": source.id,
                        "version": source.version,
                        "rows": source.rows,
                        "withdrawn": source.withdrawn,
                    }
                    for source in sources
                ],
            )

    async def put_withdrawal(self, tenant: str, withdrawal: Withdrawal, at: float) -> None:
        """Remember that a document went, or that fewer may read it."""
        await self._put(
            tables.withdrawals,
            {"tenant": tenant, "document_id": withdrawal.document_id},
            {"deleted": withdrawal.deleted, "principals": list(withdrawal.principals), "at": at},
        )

    async def withdraw_feedback(self, tenant: str, feedback_id: str, at: float) -> None:
        """Remember that a judgement was taken back, and forget where it lay."""
        table = tables.judgements
        await self._connection.execute(
            delete(table).where(table.c.tenant == tenant, table.c.feedback_id == feedback_id)
        )
        await self._put(tables.withdrawn_feedback, {"tenant": tenant, "feedback_id": feedback_id}, {"at": at})

    async def put_alias(self, alias: Alias) -> None:
        """Add an alias or replace its record."""
        key = {"tenant": alias.tenant, "alias": alias.alias}
        await self._put(tables.aliases, key, {"record": ALIASES.dump_python(alias, mode="json")})

    async def put_promotion(self, promotion: Promotion) -> None:
        """Add a promotion or replace its record."""
        await self._put(
            tables.promotions,
            {"promotion_id": promotion.promotion_id},
            {
                "tenant": promotion.tenant,
                "alias": promotion.alias,
                "state": promotion.state.value,
                "record": PROMOTIONS.dump_python(promotion, mode="json"),
            },
        )

    async def count_once(self, promotion_id: str, key: str) -> bool:
        """Note that something was counted for a promotion; False when it was before."""
        statement = upsert(self._connection, tables.counted).values(promotion_id=promotion_id, key=key)
        result = await self._connection.execute(statement.on_conflict_do_nothing())
        return bool(result.rowcount)

    async def put_dataset(self, dataset: Dataset) -> None:
        """Add a dataset or replace its record."""
        await self._put(
            tables.datasets,
            {"dataset_id": dataset.dataset_id},
            {
                "tenant": dataset.tenant,
                "owner": dataset.owner.subject,
                "record": DATASETS.dump_python(dataset, mode="json"),
            },
        )

    async def remove_dataset(self, dataset_id: str) -> None:
        """Forget a dataset."""
        table = tables.datasets
        await self._connection.execute(delete(table).where(table.c.dataset_id == dataset_id))

    async def put_judgement(self, tenant: str, judgement: HeardJudgement) -> None:
        """Remember where a judgement's content lies."""
        await self._put(
            tables.judgements,
            {"tenant": tenant, "feedback_id": judgement.feedback_id},
            {
                "kind": judgement.kind,
                "model": judgement.model,
                "collection_ids": list(judgement.collection_ids),
                "sources": [list(source) for source in judgement.sources],
                "blob_key": judgement.blob_key,
                "at": judgement.at,
            },
        )

    async def enqueue(self, kind: str, key: str, tenant: str) -> None:
        """Ask for work on `key`."""
        await self._jobs.enqueue(self._connection, kind=kind, key=key, tenant=tenant, payload={})

    async def withdraw_work(self, key: str) -> None:
        """Withdraw what was asked for `key`."""
        await self._jobs.cancel(self._connection, key)

    async def hold(self, job: Job) -> None:
        """Make sure that the work is still this worker's, within the transaction."""
        await self._jobs.hold(self._connection, job)

    async def complete(self, job: Job) -> None:
        """Note that a piece of work is done."""
        await self._jobs.complete(self._connection, job)

    async def announce_adapter(self, version: AdapterVersion) -> None:
        """Tell other rooms the state of an adapter once this transaction is kept."""
        await self._outbox.add(self._connection, ADAPTER_TOPIC, adapter_fact(version))

    async def announce_alias(self, alias: Alias) -> None:
        """Tell other rooms where an alias leads once this transaction is kept."""
        await self._outbox.add(self._connection, ADAPTER_TOPIC, alias_fact(alias))

    async def announce_promotion(self, promotion: Promotion) -> None:
        """Tell other rooms that a promotion waits for its verdict."""
        await self._outbox.add(self._connection, ADAPTER_TOPIC, promotion_fact(promotion))

    async def tell_webhooks(self, job: TuningJob) -> None:
        """Have those who asked for it told that a job ended."""
        await self._webhooks.announce(
            self._connection, tenant=job.tenant, event=_TOLD[job.status], job_id=job.job_id, now=job.finished_at
        )

    async def _put(self, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
        statement = upsert(self._connection, table).values(key | values)
        await self._connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
