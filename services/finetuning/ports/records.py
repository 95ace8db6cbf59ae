"""What the room remembers, as its use cases see it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from services.chassis.jobs.table import Job
from services.finetuning.domain.adapters import AdapterSource, AdapterVersion, Alias, Withdrawal
from services.finetuning.domain.datasets import Dataset
from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.domain.jobs import Checkpoint, JobEvent, TuningJob
from services.finetuning.domain.promotions import Promotion

__all__ = ["Change", "Ledger", "Page", "Reading"]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first: at most `limit` entries after the one with id `after` (empty for the start)."""

    limit: int
    after: str = ""


class Reading(Protocol):
    """The records, as read. Everything is looked up under a tenant."""

    async def job(self, tenant: str, job_id: str) -> TuningJob | None:
        """Return a job."""
        ...

    async def jobs(
        self, tenant: str, page: Page, *, owner: str | None, metadata: dict[str, str] | None
    ) -> list[TuningJob]:
        """Return jobs, one more than the page's limit where more follow; of one subject, or of all with None.

        Of all with these notes; with None, of those without any.
        """
        ...

    async def jobs_ahead(self, job: TuningJob) -> list[TuningJob]:
        """Return the jobs of every tenant that run, or were queued before this one."""
        ...

    async def jobs_waiting_for(self, tenant: str, job_id: str) -> list[TuningJob]:
        """Return the jobs that start from what another makes."""
        ...

    async def jobs_by_status(self) -> dict[str, int]:
        """Return how many jobs of every tenant are in each state."""
        ...

    async def events(self, job_id: str, page: Page) -> list[JobEvent]:
        """Return a job's events, one more than the page's limit where more follow."""
        ...

    async def metrics(self, job_id: str) -> list[dict[str, float]]:
        """Return every metrics event of a job, oldest first, each with its step."""
        ...

    async def checkpoints(self, job_id: str, page: Page) -> list[Checkpoint]:
        """Return a job's checkpoints, one more than the page's limit where more follow."""
        ...

    async def adapter(self, tenant: str, name: str) -> AdapterVersion | None:
        """Return an adapter, a deleted one too."""
        ...

    async def adapters(self, tenant: str, page: Page, *, document_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted, one more than the page's limit where more follow."""
        ...

    async def adapters_of_source(self, tenant: str, kind: str, source_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted and learned from something."""
        ...

    async def adapters_of_job(self, tenant: str, job_id: str) -> list[AdapterVersion]:
        """Return adapters that are not deleted and that a job made: its own and its checkpoints'."""
        ...

    async def sources(self, tenant: str, name: str) -> list[AdapterSource]:
        """Return what an adapter learned from, its parents' sources included."""
        ...

    async def withdrawals(self, tenant: str, document_ids: Sequence[str]) -> list[Withdrawal]:
        """Return those of the documents that went or may be read by fewer than before."""
        ...

    async def withdrawn_feedback(self, tenant: str, feedback_ids: Sequence[str]) -> set[str]:
        """Return those of the judgements that were taken back."""
        ...

    async def alias(self, tenant: str, alias: str) -> Alias | None:
        """Return an alias."""
        ...

    async def aliases(self, tenant: str) -> list[Alias]:
        """Return the tenant's aliases, by name."""
        ...

    async def promotion(self, tenant: str, promotion_id: str) -> Promotion | None:
        """Return a promotion."""
        ...

    async def promotions(self, tenant: str, page: Page, *, alias: str) -> list[Promotion]:
        """Return promotions, one more than the page's limit where more follow; of one alias, or of all."""
        ...

    async def dataset(self, tenant: str, dataset_id: str) -> Dataset | None:
        """Return a dataset."""
        ...

    async def datasets(self, tenant: str, page: Page, *, owner: str | None) -> list[Dataset]:
        """Return datasets, one more than the page's limit where more follow; of one subject, or of all with None."""
        ...

    async def heard_judgements(self, tenant: str) -> list[HeardJudgement]:
        """Return the judgements that were given and not taken back, oldest first."""
        ...

    async def open_promotion(self, tenant: str, alias: str) -> Promotion | None:
        """Return the promotion of an alias that has not come to its end."""
        ...


class Change(Reading, Protocol):
    """A transaction: all of it or nothing, and what is read in it stays true until its end."""

    async def put_job(self, job: TuningJob) -> None:
        """Add a job or replace its record."""
        ...

    async def add_event(self, tenant: str, event: JobEvent) -> None:
        """Note something that happened to a job."""
        ...

    async def add_checkpoint(self, tenant: str, checkpoint: Checkpoint) -> None:
        """Note a checkpoint."""
        ...

    async def remove_checkpoints(self, checkpoint_ids: Sequence[str]) -> None:
        """Forget checkpoints."""
        ...

    async def put_adapter(self, version: AdapterVersion) -> None:
        """Add an adapter or replace its record."""
        ...

    async def next_version(self, tenant: str, suffix: str) -> int:
        """Return the number of the next version of a suffix."""
        ...

    async def put_sources(self, tenant: str, name: str, sources: Sequence[AdapterSource]) -> None:
        """Replace what an adapter is said to have learned from."""
        ...

    async def put_withdrawal(self, tenant: str, withdrawal: Withdrawal, at: float) -> None:
        """Remember that a document went, or that fewer may read it."""
        ...

    async def withdraw_feedback(self, tenant: str, feedback_id: str, at: float) -> None:
        """Remember that a judgement was taken back."""
        ...

    async def put_alias(self, alias: Alias) -> None:
        """Add an alias or replace its record."""
        ...

    async def put_promotion(self, promotion: Promotion) -> None:
        """Add a promotion or replace its record."""
        ...

    async def count_once(self, promotion_id: str, key: str) -> bool:
        """Note that something was counted for a promotion; False when it was before."""
        ...

    async def put_dataset(self, dataset: Dataset) -> None:
        """Add a dataset or replace its record."""
        ...

    async def remove_dataset(self, dataset_id: str) -> None:
        """Forget a dataset."""
        ...

    async def put_judgement(self, tenant: str, judgement: HeardJudgement) -> None:
        """Remember where a judgement's content lies."""
        ...

    async def enqueue(self, kind: str, key: str, tenant: str) -> None:
        """Ask for work on `key`."""
        ...

    async def withdraw_work(self, key: str) -> None:
        """Withdraw what was asked for `key`; whoever does it finds out at the next write."""
        ...

    async def hold(self, job: Job) -> None:
        """Make sure that the work is still this worker's, within the transaction.

        Raises:
            Conflict: It was cancelled or handed to another worker.
        """
        ...

    async def complete(self, job: Job) -> None:
        """Note that a piece of work is done.

        Raises:
            Conflict: It was cancelled or handed to another worker.
        """
        ...

    async def announce_adapter(self, version: AdapterVersion) -> None:
        """Tell other rooms the state of an adapter once this transaction is kept."""
        ...

    async def announce_alias(self, alias: Alias) -> None:
        """Tell other rooms where an alias leads once this transaction is kept."""
        ...

    async def announce_promotion(self, promotion: Promotion) -> None:
        """Tell other rooms that a promotion waits for its verdict."""
        ...

    async def tell_webhooks(self, job: TuningJob) -> None:
        """Have those who asked for it told that a job ended."""
        ...


class Ledger(Reading, Protocol):
    """The room's records."""

    def change(self) -> AbstractAsyncContextManager[Change]:
        """Open a transaction; it is kept when the block ends and undone on an error.

        Raises:
            Unavailable: The database is away.
        """
        ...
