"""What the gateway needs from the finetuning room, by subject."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.domain.adapters import Adapter, Alias, NewPromotion, Promotion, Retraining
from gateway.domain.keeping import Page, Paging
from gateway.domain.tuning import Check, Checkpoint, Dataset, DatasetSpec, Grade, Job, JobEvent, NewJob, Webhook

__all__ = ["Adapters", "Datasets", "Graders", "Jobs", "Promotions", "Webhooks"]


class Jobs(Protocol):
    """Trains."""

    async def create(self, new: NewJob) -> Job:
        """Keep a job and queue its validation."""
        ...

    async def check(self, new: NewJob, *, skip_dry_run: bool = False) -> Check:
        """Do what validation would do, and estimate, without keeping a job."""
        ...

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        ...

    async def list(
        self, paging: Paging, *, metadata: Mapping[str, str] | None = None, without_metadata: bool = False
    ) -> Page[Job]:
        """Return the tenant's jobs, newest first: those with all of these notes, or those without any."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """End a job that has not ended."""
        ...

    async def pause(self, job_id: str) -> Job:
        """Stop a running job at its next checkpoint."""
        ...

    async def resume(self, job_id: str) -> Job:
        """Go on from the last checkpoint."""
        ...

    async def events(self, job_id: str, paging: Paging) -> Page[JobEvent]:
        """Return a job's events, newest first."""
        ...

    async def checkpoints(self, job_id: str, paging: Paging) -> Page[Checkpoint]:
        """Return a job's checkpoints, newest first."""
        ...


class Graders(Protocol):
    """Grades answers."""

    async def validate(self, grader_json: str) -> str:
        """Return a grader with its defaults."""
        ...

    async def run(self, grader_json: str, *, sample: str, item_json: str) -> Grade:
        """Grade one answer to one row."""
        ...


class Datasets(Protocol):
    """Makes training rows."""

    async def build(self, name: str, spec: DatasetSpec) -> Dataset:
        """Keep a dataset and queue the work that makes its rows."""
        ...

    async def get(self, dataset_id: str) -> Dataset:
        """Return a dataset."""
        ...

    async def list(self, paging: Paging) -> Page[Dataset]:
        """Return the tenant's datasets, newest first."""
        ...

    async def delete(self, dataset_id: str) -> None:
        """Forget a dataset and delete its files."""
        ...


class Adapters(Protocol):
    """Keeps adapters and what they learned from."""

    async def list(self, paging: Paging, *, document_id: str = "") -> Page[Adapter]:
        """Return the adapters that the caller may know of, newest first; only those that saw a document, if one is named."""
        ...

    async def get(self, name: str) -> Adapter:
        """Return an adapter with its sources."""
        ...

    async def import_archive(self, file_id: str, *, suffix: str, principals: Sequence[str]) -> Adapter:
        """Publish an adapter that was trained elsewhere."""
        ...

    async def block(self, name: str, reason: str) -> Adapter:
        """Refuse an adapter to everybody, at once."""
        ...

    async def accept(self, name: str, reason: str) -> Adapter:
        """Serve a blocked adapter again."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an adapter and its files."""
        ...

    async def withhold(self, document_ids: Sequence[str], *, principals: Sequence[str] | None) -> Sequence[str]:
        """Block the adapters that saw documents which are deleted (None), or which only `principals` may read from now on.

        Returns:
            The adapters that are refused from now on.
        """
        ...

    async def retrain(self, name: str) -> Retraining:
        """Train an adapter's whole chain again on the rows that remain."""
        ...


class Promotions(Protocol):
    """Moves aliases."""

    async def promote(self, new: NewPromotion) -> Promotion:
        """Open a promotion."""
        ...

    async def get(self, promotion_id: str) -> Promotion:
        """Return a promotion with its history."""
        ...

    async def list(self, paging: Paging, *, alias: str = "") -> Page[Promotion]:
        """Return the tenant's promotions, newest first."""
        ...

    async def rollback(self, alias: str, reason: str) -> Promotion:
        """End an open promotion, or move the alias back to where it led before."""
        ...

    async def aliases(self) -> Sequence[Alias]:
        """Return the tenant's aliases, by name."""
        ...


class Webhooks(Protocol):
    """Tells addresses when jobs end."""

    async def create(self, url: str, events: Sequence[str]) -> tuple[Webhook, str]:
        """Keep an address; return it and the secret to check signatures with."""
        ...

    async def list(self) -> Sequence[Webhook]:
        """Return the tenant's addresses, oldest first."""
        ...

    async def delete(self, webhook_id: str) -> None:
        """Forget an address."""
        ...
