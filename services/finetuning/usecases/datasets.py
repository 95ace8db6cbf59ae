"""Datasets as their owners handle them, and the work that makes their rows."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import (
    BrainError,
    Conflict,
    InvalidInput,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from services.chassis.ids import new_id
from services.chassis.jobs.table import Job
from services.finetuning.domain.building import BuildSpec, Progress
from services.finetuning.domain.datasets import BUILD_JOB, Dataset, DatasetStatus
from services.finetuning.domain.owners import Owner, may_see
from services.finetuning.ports.delegation import Delegation
from services.finetuning.ports.files import Files
from services.finetuning.ports.records import Ledger, Page, Reading
from services.finetuning.telemetry import BUILD_SPAN, Metrics, spans
from services.finetuning.usecases.building import BuildDataset

__all__ = ["Datasets", "MakeDataset"]

_log = structlog.get_logger()
_MAX_NAME_CHARS: Final = 128
# How often it is written down how far a build is.
_SHOW_S: Final = 2.0
# What is wrong with the request, not with us.
_REFUSALS: Final = (InvalidInput, NotFound, TooLarge, PermissionDenied)


class Datasets:
    """Creates, shows and forgets datasets.

    Args:
        ledger: Records.
        files: Where rows lie.
        now: Seconds since 1970.
    """

    def __init__(self, *, ledger: Ledger, files: Files, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._files = files
        self._now = now

    async def create(self, caller: Caller, name: str, spec: BuildSpec) -> Dataset:
        """Keep a dataset and have its rows made.

        Raises:
            InvalidInput: A field is wrong.
        """
        spec.checked()
        if not 1 <= len(name) <= _MAX_NAME_CHARS:
            raise InvalidInput(f"name: give 1 to {_MAX_NAME_CHARS} characters, not {len(name)}.", param="name")
        dataset = Dataset(
            dataset_id=new_id("ds_"),
            tenant=caller.tenant,
            owner=Owner.of(caller),
            name=name,
            status=DatasetStatus.BUILDING,
            spec=spec,
            created_at=self._now(),
        )
        async with self._ledger.change() as change:
            await change.put_dataset(dataset)
            await change.enqueue(BUILD_JOB, dataset.dataset_id, dataset.tenant)
        return dataset

    async def get(self, caller: Caller, dataset_id: str) -> Dataset:
        """Return a dataset."""
        return await _own(self._ledger, caller, dataset_id)

    async def page(self, caller: Caller, page: Page) -> tuple[list[Dataset], bool]:
        """Return a page of datasets, and whether more follow."""
        owner = None if caller.is_administrator else caller.subject
        found = await self._ledger.datasets(caller.tenant, page, owner=owner)
        return found[: page.limit], len(found) > page.limit

    async def delete(self, caller: Caller, dataset_id: str) -> None:
        """Forget a dataset and delete its files; adapters that learned from them stay, with their lineage.

        Raises:
            NotFound: There is no such dataset.
        """
        async with self._ledger.change() as change:
            dataset = await _own(change, caller, dataset_id)
            await change.withdraw_work(dataset_id)
            await change.remove_dataset(dataset_id)
        for file_id in (dataset.training_file, dataset.held_out_file):
            if file_id:
                await self._files.delete(file_id)


class MakeDataset:
    """Does the work behind a dataset, in its owner's name.

    Args:
        ledger: Records.
        build: Makes rows and keeps them as files.
        files: Where rows lie.
        delegation: Acts in the owner's name.
        metrics: Where datasets are counted.
    """

    def __init__(
        self, *, ledger: Ledger, build: BuildDataset, files: Files, delegation: Delegation, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._build = build
        self._files = files
        self._delegation = delegation
        self._metrics = metrics

    async def __call__(self, work: Job) -> None:
        """Bring a dataset to ready or failed.

        Raises:
            Conflict: It was deleted, or handed to another worker.
            Unavailable: Something passing; it is to be tried again.
        """
        dataset = await self._ledger.dataset(work.tenant, work.key)
        if dataset is None or dataset.status is not DatasetStatus.BUILDING:
            async with self._ledger.change() as change:
                await change.complete(work)
            return
        newest: list[Progress] = []
        showing = asyncio.create_task(self._show(work, newest))
        caller = dataset.owner.caller(work.tenant)
        try:
            with (
                spans.start_as_current_span(BUILD_SPAN) as span,
                self._delegation.acting_for(caller, work=dataset.dataset_id),
            ):
                span.set_attribute("brain.dataset_id", dataset.dataset_id)
                await self._made(work, dataset, newest)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    async def fail(self, work: Job, error: BrainError) -> None:
        """Bring the dataset of work that will not be tried again to failed."""
        async with self._ledger.change() as change:
            dataset = await change.dataset(work.tenant, work.key)
            if dataset is not None and dataset.status is DatasetStatus.BUILDING:
                await change.put_dataset(replace(dataset, status=DatasetStatus.FAILED, error=error.message))
        self._metrics.datasets.labels(outcome="failed").inc()

    async def _made(self, work: Job, dataset: Dataset, newest: list[Progress]) -> None:
        try:
            built = await self._build(dataset.spec, name=dataset.name, report=newest.append)
        except _REFUSALS as error:
            await self._end(work, replace(dataset, status=DatasetStatus.FAILED, error=error.message))
            return
        summary = built.summary
        done = replace(
            dataset,
            status=DatasetStatus.READY,
            training_file=built.training_file,
            held_out_file=built.held_out_file,
            rows=summary.rows,
            held_out_rows=summary.held_out_rows,
            documents=summary.documents,
            judgements=summary.judgements,
            report_json=summary.to_json(),
        )
        try:
            await self._end(work, done)
        except Conflict:
            # Nobody knows of these files but this call.
            for file_id in filter(None, (built.training_file, built.held_out_file)):
                await self._files.delete(file_id)
            raise

    async def _show(self, work: Job, newest: list[Progress]) -> None:
        """Write down how far the build is, now and then, for ever."""
        while True:
            await asyncio.sleep(_SHOW_S)
            if not newest:
                continue
            progress = newest[-1]
            newest.clear()
            with contextlib.suppress(Unavailable, Conflict):
                async with self._ledger.change() as change:
                    await change.hold(work)
                    dataset = await change.dataset(work.tenant, work.key)
                    if dataset is not None:
                        said = json.dumps({"progress": asdict(progress)})
                        await change.put_dataset(replace(dataset, report_json=said))

    async def _end(self, work: Job, dataset: Dataset) -> None:
        async with self._ledger.change() as change:
            await change.complete(work)
            if await change.dataset(work.tenant, work.key) is None:
                raise Conflict(f"Dataset {work.key} was deleted while its rows were made.")
            await change.put_dataset(dataset)
        self._metrics.datasets.labels(outcome=dataset.status.value).inc()
        _log.info("dataset_built", dataset_id=dataset.dataset_id, status=dataset.status.value, rows=dataset.rows)


async def _own(reading: Reading, caller: Caller, dataset_id: str) -> Dataset:
    dataset = await reading.dataset(caller.tenant, dataset_id)
    if dataset is None or not may_see(caller, dataset.owner):
        raise NotFound(f"dataset_id: there is no dataset {dataset_id[:80]!r}.", param="dataset_id")
    return dataset
