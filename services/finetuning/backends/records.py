"""The room's records as read from a database (SQLAlchemy Core; SQLite and PostgreSQL)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Column, Executable, Row, Select, func, or_, select

from services.chassis.errors import InvalidInput
from services.finetuning.backends import tables
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, AdapterVersion, Alias, Withdrawal
from services.finetuning.domain.datasets import Dataset
from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.domain.jobs import Checkpoint, JobEvent, JobStatus, TuningJob
from services.finetuning.domain.promotions import OPEN, Promotion
from services.finetuning.ports.records import Page

__all__ = ["ADAPTERS", "ALIASES", "CHECKPOINTS", "DATASETS", "EVENTS", "JOBS", "PROMOTIONS", "Records"]

# Records as JSON and back: the columns beside them are for looking up only.
JOBS: Final = TypeAdapter(TuningJob)
EVENTS: Final = TypeAdapter(JobEvent)
CHECKPOINTS: Final = TypeAdapter(Checkpoint)
ADAPTERS: Final = TypeAdapter(AdapterVersion)
ALIASES: Final = TypeAdapter(Alias)
PROMOTIONS: Final = TypeAdapter(Promotion)
DATASETS: Final = TypeAdapter(Dataset)
# Values in one IN list; databases limit the parameters of a statement.
_IN: Final = 500

Record = TypeVar("Record")


class Records(ABC):
    """Reads records; what a subclass adds is the connection that it reads through."""

    @abstractmethod
    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds."""

    def locked(self, query: Select[Any]) -> Select[Any]:
        """Return a query that keeps others from changing what it finds, where the connection is in a transaction."""
        return query

    async def job(self, tenant: str, job_id: str) -> TuningJob | None:
        """Return a job."""
        jobs = tables.tuning_jobs
        return await self._one(JOBS, select(jobs.c.record).where(jobs.c.tenant == tenant, jobs.c.job_id == job_id))

    async def jobs(
        self, tenant: str, page: Page, *, owner: str | None, metadata: dict[str, str] | None
    ) -> list[TuningJob]:
        """Return jobs, one more than the page's limit where more follow."""
        jobs = tables.tuning_jobs
        query = select(jobs.c.record).where(jobs.c.tenant == tenant)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if metadata is None:
            query = query.where(~jobs.c.has_notes)
        for key, value in (metadata or {}).items():
            query = query.where(jobs.c.record["metadata"][key].as_string() == value)
        return await self._page(JOBS, query, jobs.c.job_id, page)

    async def jobs_ahead(self, job: TuningJob) -> list[TuningJob]:
        """Return the jobs that run, or were queued before this one."""
        jobs = tables.tuning_jobs
        earlier = (jobs.c.status == JobStatus.QUEUED) & (jobs.c.queued_at < job.queued_at)
        query = select(jobs.c.record).where(
            or_(jobs.c.status == JobStatus.RUNNING, earlier), jobs.c.job_id != job.job_id, jobs.c.waits_for == ""
        )
        return await self._all(JOBS, query)

    async def jobs_waiting_for(self, tenant: str, job_id: str) -> list[TuningJob]:
        """Return the jobs that start from what another makes."""
        jobs = tables.tuning_jobs
        return await self._all(
            JOBS,
            select(jobs.c.record).where(jobs.c.tenant == tenant, jobs.c.waits_for == job_id).order_by(jobs.c.job_id),
        )

    async def jobs_by_status(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        jobs = tables.tuning_jobs
        rows = await self.rows(select(jobs.c.status, func.count().label("jobs")).group_by(jobs.c.status))
        return {str(row.status): int(row.jobs) for row in rows}

    async def events(self, job_id: str, page: Page) -> list[JobEvent]:
        """Return a job's events, one more than the page's limit where more follow."""
        events = tables.events
        return await self._page(
            EVENTS, select(events.c.record).where(events.c.job_id == job_id), events.c.event_id, page
        )

    async def metrics(self, job_id: str) -> list[dict[str, float]]:
        """Return every metrics event of a job, oldest first."""
        events = tables.events
        query = (
            select(events.c.record)
            .where(events.c.job_id == job_id, events.c.kind == "metrics")
            .order_by(events.c.event_id)
        )
        found = await self._all(EVENTS, query)
        return [{name: float(value) for name, value in event.data.items()} for event in found]

    async def checkpoints(self, job_id: str, page: Page) -> list[Checkpoint]:
        """Return a job's checkpoints, one more than the page's limit where more follow."""
        checkpoints = tables.checkpoints
        query = select(checkpoints.c.record).where(checkpoints.c.job_id == job_id)
        return await self._page(CHECKPOINTS, query, checkpoints.c.checkpoint_id, page)

    async def adapter(self, tenant: str, name: str) -> AdapterVersion | None:
        """Return an adapter."""
        adapters = tables.adapters
        return await self._one(
            ADAPTERS, select(adapters.c.record).where(adapters.c.tenant == tenant, adapters.c.name == name)
        )

    async def adapters(self, tenant: str, page: Page, *, document_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted, one more than the page's limit where more follow."""
        adapters = tables.adapters
        query = select(adapters.c.record).where(adapters.c.tenant == tenant, adapters.c.status != AdapterStatus.DELETED)
        if document_id:
            query = query.where(adapters.c.name.in_(self._names(tenant, "document", document_id)))
        if page.after:
            last = await self.adapter(tenant, page.after)
            if last is None:
                raise InvalidInput(f"after: there is no adapter {page.after[:140]!r}.", param="after")
            older = (adapters.c.created_at == last.created_at) & (adapters.c.name < last.name)
            query = query.where(or_(adapters.c.created_at < last.created_at, older))
        query = query.order_by(adapters.c.created_at.desc(), adapters.c.name.desc()).limit(page.limit + 1)
        return await self._all(ADAPTERS, query)

    async def adapters_of_source(self, tenant: str, kind: str, source_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted and learned from something."""
        adapters = tables.adapters
        query = select(adapters.c.record).where(
            adapters.c.tenant == tenant,
            adapters.c.status != AdapterStatus.DELETED,
            adapters.c.name.in_(self._names(tenant, kind, source_id)),
        )
        return await self._all(ADAPTERS, query)

    async def adapters_of_job(self, tenant: str, job_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted and that a job made."""
        adapters = tables.adapters
        query = select(adapters.c.record).where(
            adapters.c.tenant == tenant, adapters.c.job_id == job_id, adapters.c.status != AdapterStatus.DELETED
        )
        return await self._all(ADAPTERS, query)

    async def sources(self, tenant: str, name: str) -> list[AdapterSource]:
        """Return what an adapter learned from."""
        sources = tables.adapter_sources
        query = (
            select(sources)
            .where(sources.c.tenant == tenant, sources.c.name == name)
            .order_by(sources.c.kind, sources.c.source_id, sources.c.version)
        )
        return [
            AdapterSource(row.kind, row.source_id, row.version, row.rows, row.withdrawn)
            for row in await self.rows(query)
        ]

    async def withdrawals(self, tenant: str, document_ids: Sequence[str]) -> list[Withdrawal]:
        """Return those of the documents that went or may be read by fewer than before."""
        table = tables.withdrawals
        found = []
        for start in range(0, len(document_ids), _IN):
            part = list(document_ids[start : start + _IN])
            rows = await self.rows(select(table).where(table.c.tenant == tenant, table.c.document_id.in_(part)))
            found += [Withdrawal(row.document_id, row.deleted, tuple(row.principals)) for row in rows]
        return found

    async def withdrawn_feedback(self, tenant: str, feedback_ids: Sequence[str]) -> set[str]:
        """Return those of the judgements that were taken back."""
        table = tables.withdrawn_feedback
        found: set[str] = set()
        for start in range(0, len(feedback_ids), _IN):
            part = list(feedback_ids[start : start + _IN])
            rows = await self.rows(
                select(table.c.feedback_id).where(table.c.tenant == tenant, table.c.feedback_id.in_(part))
            )
            found |= {row.feedback_id for row in rows}
        return found

    async def alias(self, tenant: str, alias: str) -> Alias | None:
        """Return an alias."""
        aliases = tables.aliases
        return await self._one(
            ALIASES, select(aliases.c.record).where(aliases.c.tenant == tenant, aliases.c.alias == alias)
        )

    async def aliases(self, tenant: str) -> list[Alias]:
        """Return the tenant's aliases, by name."""
        aliases = tables.aliases
        return await self._all(
            ALIASES, select(aliases.c.record).where(aliases.c.tenant == tenant).order_by(aliases.c.alias)
        )

    async def promotion(self, tenant: str, promotion_id: str) -> Promotion | None:
        """Return a promotion."""
        promotions = tables.promotions
        return await self._one(
            PROMOTIONS,
            select(promotions.c.record).where(promotions.c.tenant == tenant, promotions.c.promotion_id == promotion_id),
        )

    async def promotions(self, tenant: str, page: Page, *, alias: str) -> list[Promotion]:
        """Return promotions, one more than the page's limit where more follow."""
        promotions = tables.promotions
        query = select(promotions.c.record).where(promotions.c.tenant == tenant)
        if alias:
            query = query.where(promotions.c.alias == alias)
        return await self._page(PROMOTIONS, query, promotions.c.promotion_id, page)

    async def open_promotion(self, tenant: str, alias: str) -> Promotion | None:
        """Return the promotion of an alias that has not come to its end."""
        promotions = tables.promotions
        return await self._one(
            PROMOTIONS,
            select(promotions.c.record).where(
                promotions.c.tenant == tenant,
                promotions.c.alias == alias,
                promotions.c.state.in_([state.value for state in OPEN]),
            ),
        )

    async def dataset(self, tenant: str, dataset_id: str) -> Dataset | None:
        """Return a dataset."""
        datasets = tables.datasets
        return await self._one(
            DATASETS, select(datasets.c.record).where(datasets.c.tenant == tenant, datasets.c.dataset_id == dataset_id)
        )

    async def datasets(self, tenant: str, page: Page, *, owner: str | None) -> list[Dataset]:
        """Return datasets, one more than the page's limit where more follow."""
        datasets = tables.datasets
        query = select(datasets.c.record).where(datasets.c.tenant == tenant)
        if owner is not None:
            query = query.where(datasets.c.owner == owner)
        return await self._page(DATASETS, query, datasets.c.dataset_id, page)

    async def heard_judgements(self, tenant: str) -> list[HeardJudgement]:
        """Return the judgements that were given and not taken back, oldest first."""
        table = tables.judgements
        rows = await self.rows(select(table).where(table.c.tenant == tenant).order_by(table.c.at, table.c.feedback_id))
        return [
            HeardJudgement(
                row.feedback_id,
                row.kind,
                row.model,
                tuple(row.collection_ids),
                tuple((source[0], source[1]) for source in row.sources),
                row.blob_key,
                row.at,
            )
            for row in rows
        ]

    def _names(self, tenant: str, kind: str, source_id: str) -> Select[tuple[str]]:
        sources = tables.adapter_sources
        return select(sources.c.name).where(
            sources.c.tenant == tenant, sources.c.kind == kind, sources.c.source_id == source_id
        )

    async def _one(self, form: TypeAdapter[Record], query: Select[Any]) -> Record | None:
        # What is read one by one is read to be changed: in a transaction it stays as it is until the end.
        rows = await self.rows(self.locked(query.limit(1)))
        return form.validate_python(rows[0].record) if rows else None

    async def _all(self, form: TypeAdapter[Record], query: Select[Any]) -> list[Record]:
        return [form.validate_python(row.record) for row in await self.rows(query)]

    async def _page(self, form: TypeAdapter[Record], query: Select[Any], key: Column[Any], page: Page) -> list[Record]:
        """Return a page, newest first: ids sort by time."""
        if page.after:
            query = query.where(key < page.after)
        return await self._all(form, query.order_by(key.desc()).limit(page.limit + 1))
