"""Training again without what went: the whole chain behind an adapter, on the rows that remain."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.ids import new_id
from services.finetuning.domain.adapters import AdapterVersion, is_covered
from services.finetuning.domain.jobs import JobStatus, TuningJob
from services.finetuning.domain.lineage import Withdrawn, kept_rows
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.rows import as_line
from services.finetuning.ports.delegation import Delegation
from services.finetuning.ports.files import Files
from services.finetuning.ports.records import Change, Ledger, Reading
from services.finetuning.usecases.jobs import Jobs
from services.finetuning.usecases.lookup import owned_adapter
from services.finetuning.usecases.reading import ReadRows

__all__ = ["Retrain", "Retraining", "withdrawn_of"]

_log = structlog.get_logger()
# Metadata by which a job shows which one it repeats.
REPEATS: Final = "retrains"


@dataclass(frozen=True, slots=True)
class Retraining:
    """Jobs that train a chain again, first stage first, and the rows that they leave out."""

    job_ids: tuple[str, ...]
    rows_left_out: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """A job of the chain with the files it is to be trained on now.

    `began_from` is the job that made the adapter, or the checkpoint's adapter, that it started from; empty for none.
    """

    job: TuningJob
    began_from: str
    training_file: str
    validation_file: str
    left_out: int


class Retrain:
    """Creates the jobs of a chain once more; each waits for the one before it.

    Stages before the first that saw something withdrawn are not repeated: their adapters are as they would be. A stage
    whose rows are all withdrawn cannot be repeated, and the chain is refused with its name.

    Args:
        ledger: Records.
        jobs: Creates jobs.
        files: Keeps training files.
        read_rows: Reads them.
        delegation: Acts in an owner's name where nobody asks.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        jobs: Jobs,
        files: Files,
        read_rows: ReadRows,
        delegation: Delegation,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._files = files
        self._read_rows = read_rows
        self._delegation = delegation
        self._now = now

    async def __call__(self, caller: Caller, name: str) -> Retraining:
        """Train an adapter's chain again on the rows that remain.

        Raises:
            NotFound: There is no such adapter of the caller's.
            Conflict: It was not trained here, or nothing that it saw is withdrawn.
            InvalidInput: A stage would have no rows left.
        """
        version = await owned_adapter(self._ledger, caller, name)
        if not version.job_id:
            raise Conflict(f"name: {name} was trained elsewhere; import a version without what went.", param="name")
        withdrawn = await withdrawn_of(self._ledger, version)
        if not withdrawn:
            raise Conflict(f"name: nothing that {name} was trained on is withdrawn.", param="name")
        chain = await self._chain(self._ledger, caller.tenant, version.job_id)
        stages = [await self._filtered(job, began_from, withdrawn) for job, began_from in chain]
        affected = self._affected(stages)
        async with self._ledger.change() as change:
            made = await self._create(change, caller, affected, name)
        left_out = sum(stage.left_out for stage in affected)
        _log.info("chain_retrained", adapter=name, jobs=len(made), rows_left_out=left_out)
        return Retraining(tuple(made), left_out)

    async def by_itself(self, version: AdapterVersion) -> None:
        """Train a blocked adapter's chain again without being asked, in its owner's name; what speaks against it is logged."""
        caller = version.owner.caller(version.tenant)
        try:
            with self._delegation.acting_for(caller, work=version.name):
                await self(caller, version.name)
        except (Conflict, InvalidInput, NotFound) as error:
            _log.warning("chain_not_retrained", adapter=version.name, reason=error.message)

    async def _chain(self, reading: Reading, tenant: str, job_id: str) -> list[tuple[TuningJob, str]]:
        """Return the jobs behind a job and itself, each after those that it starts from, and with the maker of its parent."""
        found: dict[str, tuple[TuningJob, str]] = {}

        async def visit(one: str) -> None:
            job = await reading.job(tenant, one)
            if job is None:
                raise Conflict(
                    f"name: the job {one}, which the adapter came from, is no longer on record.", param="name"
                )
            began_from = ""
            if job.parent:
                parent = await reading.adapter(tenant, job.parent)
                if parent is not None and parent.job_id:
                    began_from = parent.job_id
                    await visit(began_from)
            if job.wanted.reward_model:
                await visit(job.wanted.reward_model)
            found.setdefault(one, (job, began_from))

        await visit(job_id)
        return list(found.values())

    async def _filtered(self, job: TuningJob, began_from: str, withdrawn: Withdrawn) -> _Stage:
        """Return a job with copies of its files that lack what is withdrawn; the files themselves where all remains."""
        training, left_out = await self._without(job, job.training_file, withdrawn)
        validation, also_left = job.validation_file, 0
        if job.validation_file:
            validation, also_left = await self._without(job, job.validation_file, withdrawn, may_be_empty=True)
        return _Stage(job, began_from, training, validation, left_out + also_left)

    async def _without(
        self, job: TuningJob, file_id: str, withdrawn: Withdrawn, *, may_be_empty: bool = False
    ) -> tuple[str, int]:
        read = await self._read_rows(file_id, stage=job.wanted.stage.value)
        kept, left = kept_rows(read.rows, withdrawn)
        if not left:
            return file_id, 0
        if not kept:
            if may_be_empty:
                return "", len(left)
            raise InvalidInput(
                f"name: every row of the {job.wanted.stage.value} stage ({job.job_id}) came from what is gone; train a new "
                "adapter instead.",
                param="name",
            )
        without = await self._files.upload(f"{file_id}-without.jsonl", (as_line(row.row) for row in kept))
        return without.file_id, len(left)

    def _affected(self, stages: list[_Stage]) -> list[_Stage]:
        """Return the stages that must be repeated: from the first that loses rows, all that build on it."""
        again: list[_Stage] = []
        jobs: set[str] = set()
        for stage in stages:
            builds_on = stage.began_from in jobs or stage.job.wanted.reward_model in jobs
            if stage.left_out or builds_on:
                again.append(stage)
                jobs.add(stage.job.job_id)
        if not again:
            raise Conflict("name: no row of the chain came from what is withdrawn.", param="name")
        return again

    async def _create(self, change: Change, caller: Caller, stages: list[_Stage], name: str) -> list[str]:
        made: dict[str, str] = {}
        previous = ""
        for stage in stages:
            old = stage.job
            parent_job = made.get(stage.began_from, "")
            reward = made.get(old.wanted.reward_model, old.wanted.reward_model)
            job = TuningJob(
                job_id=new_id("ftjob-"),
                tenant=old.tenant,
                owner=Owner.of(caller),
                status=JobStatus.VALIDATING,
                model=old.model,
                base_model=old.base_model,
                parent="" if parent_job else old.parent,
                wanted=replace(old.wanted, reward_model=reward),
                training_file=stage.training_file,
                validation_file=stage.validation_file,
                suffix=old.suffix,
                seed=old.seed,
                metadata={**old.metadata, REPEATS: old.job_id},
                method_json=old.method_json,
                integrations_json=old.integrations_json,
                audience=old.audience,
                created_at=self._now(),
                waits_for=previous,
                parent_job=parent_job,
                retrains=name,
            )
            await self._jobs.begin(change, job)
            made[old.job_id] = previous = job.job_id
        return list(made.values())


async def withdrawn_of(reading: Reading, version: AdapterVersion) -> Withdrawn:
    """Return what an adapter saw that is gone, or that its audience may no longer read."""
    sources = await reading.sources(version.tenant, version.name)
    documents = [one.id for one in sources if one.kind == "document"]
    judgements = [one.id for one in sources if one.kind == "feedback"]
    changed = await reading.withdrawals(version.tenant, documents)
    return Withdrawn(
        frozenset(one.document_id for one in changed if one.deleted or not is_covered(version, one.principals)),
        frozenset(await reading.withdrawn_feedback(version.tenant, judgements)),
    )
