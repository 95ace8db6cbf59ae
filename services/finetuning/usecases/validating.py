"""Before a training second is spent: rows, shape and settings are checked, and time, memory and money are estimated."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, Conflict, InvalidInput, NotFound, PermissionDenied, TooLarge
from services.chassis.jobs.table import Job
from services.finetuning.domain.adapter_shape import AdapterShape
from services.finetuning.domain.adapter_shape import EngineLimits as ShapeLimits
from services.finetuning.domain.grader_documents import parse_grader
from services.finetuning.domain.grader_rewards import missing_in
from services.finetuning.domain.jobs import TRAIN_JOB, JobError, JobStatus, SourceCount, TuningJob
from services.finetuning.domain.lineage import Withdrawn, counted, kept_rows
from services.finetuning.domain.report import Finding, Report, Severity, at_lines
from services.finetuning.domain.row_reading import RowFile
from services.finetuning.domain.rows import DocumentSource, FeedbackSource
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import TrainingSettings
from services.finetuning.domain.training_messages import DryRun
from services.finetuning.ports.delegation import Delegation
from services.finetuning.ports.records import Ledger
from services.finetuning.ports.serving import Serving
from services.finetuning.ports.tokens import Tokens
from services.finetuning.ports.training import Trainer
from services.finetuning.telemetry import VALIDATE_SPAN, spans
from services.finetuning.usecases.checking import CheckRequest, CheckRows
from services.finetuning.usecases.completing import Complete
from services.finetuning.usecases.jobs import Jobs, NewJob, event
from services.finetuning.usecases.preparing import Prepare, Rows

__all__ = ["CheckJob", "CheckReport", "Checked", "Inspect", "ValidateJob"]

_log = structlog.get_logger()

# How long a dry run takes steps; loading comes on top.
_DRY_RUN_S: Final = 10.0
# What tells a caller that a request is wrong; everything else passes, or is our fault.
_REFUSALS: Final = (InvalidInput, NotFound, TooLarge, PermissionDenied, Conflict)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found about a job: the report, how it would be trained, and what its rows came from."""

    report: Report
    spec: TrainingSpec
    sources: tuple[SourceCount, ...]
    estimated_s: float
    total_steps: int


class Inspect:
    """Looks at a job's files and settings; in the name of its owner.

    Args:
        ledger: Records: what is withdrawn.
        check_rows: Reads and checks rows.
        tokens: Of the base model.
        serving: The engine that will serve the adapter.
        prepare: Chooses settings, and brings together what a dry run reads.
        trainer: Takes the dry run.
        scratch: Folder for the dry run.
        price_per_hour: What an hour of training costs; 0 leaves money out.
        watts: Power that training draws; 0 leaves energy out.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        check_rows: CheckRows,
        tokens: Tokens,
        serving: Serving,
        prepare: Prepare,
        trainer: Trainer,
        scratch: Path,
        price_per_hour: float,
        watts: float,
    ) -> None:
        self._ledger = ledger
        self._check_rows = check_rows
        self._tokens = tokens
        self._serving = serving
        self._prepare = prepare
        self._trainer = trainer
        self._scratch = scratch
        self._price_per_hour = price_per_hour
        self._watts = watts

    async def __call__(self, job: TuningJob, *, dry_run: bool) -> Checked:
        """Return what was found.

        Raises:
            NotFound: A file is not there for the owner.
            InvalidInput: A file has another purpose.
            Unavailable: A room is away.
        """
        limits = await self._serving.limits()
        # How long rows may be does not depend on how many there are; the rest is chosen once they are counted.
        first = await self._prepare.settings(job, job.wanted, limits, rows=1)
        checked = await self._check_rows(
            CheckRequest(
                stage=job.wanted.stage.value,
                training_file=job.training_file,
                validation_file=job.validation_file,
                max_length=first.max_length,
                shape=AdapterShape(rank=first.lora.rank, target_modules=first.lora.target_modules),
                limits=ShapeLimits(limits.max_rank, limits.modules) if limits.modules else None,
                served_template_hash=limits.template_hash,
                seed=job.seed,
            ),
            self._tokens,
        )
        rows = Rows(checked.training, checked.validation)
        settings = await self._prepare.settings(job, job.wanted, limits, rows=max(1, len(rows.training.rows)))
        report = checked.report
        for name, file in (("training_file", rows.training), ("validation_file", rows.validation)):
            if file is not None:
                report = report.with_findings(*await self._withdrawn(job.tenant, name, file))
        report = report.with_findings(*_ungradable(job.wanted, rows))
        # Rows that are held out decide when to stop: they teach, too, if little.
        everything = [*rows.training.rows, *(rows.validation.rows if rows.validation else ())]
        found = Checked(report, job.wanted.chosen(settings), counted(everything, file_id=job.training_file), 0.0, 0)
        if not report.trainable or not dry_run:
            return found
        with tempfile.TemporaryDirectory(prefix="dry-run-", dir=self._scratch) as folder:
            plan = await self._prepare.plan(job, settings, limits, rows, Path(folder))
            try:
                measured = await self._trainer.measure(plan, budget_s=_DRY_RUN_S)
            except (InvalidInput, TooLarge) as error:
                finding = Finding("dry_run_failed", Severity.ERROR, f"The dry run failed: {error.message}")
                return replace(found, report=report.with_findings(finding))
        return replace(
            found,
            report=report.with_section("estimate", self._estimate(found.spec, settings, measured)),
            estimated_s=measured.estimated_s,
            total_steps=measured.total_steps,
        )

    def _estimate(self, spec: TrainingSpec, settings: TrainingSettings, measured: DryRun) -> dict[str, object]:
        hours = measured.estimated_s / 3600
        found: dict[str, object] = {**asdict(measured), "learning_rate": settings.learning_rate}
        if self._price_per_hour:
            found["cost"] = round(hours * self._price_per_hour, 4)
        if self._watts:
            found["energy_kwh"] = round(hours * self._watts / 1000, 4)
        if spec.budget_s is not None and measured.estimated_s > spec.budget_s:
            found["pauses_at_budget_s"] = spec.budget_s
        if spec.budget_cost is not None and self._price_per_hour and hours * self._price_per_hour > spec.budget_cost:
            found["pauses_at_budget_cost"] = spec.budget_cost
        return found

    async def _withdrawn(self, tenant: str, name: str, rows: RowFile) -> list[Finding]:
        """Return a finding for rows whose documents were deleted or whose judgements were taken back."""
        documents, judgements = set(), set()
        for numbered in rows.rows:
            for source in numbered.row.origin.sources:
                if isinstance(source, DocumentSource):
                    documents.add(source.document)
                elif isinstance(source, FeedbackSource):
                    judgements.add(source.feedback)
        gone = await self._ledger.withdrawals(tenant, sorted(documents))
        withdrawn = Withdrawn(
            frozenset(one.document_id for one in gone if one.deleted),
            frozenset(await self._ledger.withdrawn_feedback(tenant, sorted(judgements))),
        )
        _, lines = kept_rows(rows.rows, withdrawn)
        if not lines:
            return []
        message = (
            f"{name}: {len(lines)} rows came from documents that were deleted or judgements that were taken back; build the "
            "dataset again."
        )
        return [at_lines("withdrawn_source", Severity.ERROR, message, lines)]


def _ungradable(spec: TrainingSpec, rows: Rows) -> list[Finding]:
    """Return a finding for rows that lack a field which the job's grader compares answers with."""
    if not spec.grader_json:
        return []
    grader = parse_grader(spec.grader_json)
    lacking: dict[str, list[int]] = {}
    for numbered in rows.training.rows:
        for reason in missing_in(grader, numbered.row.extra):
            lacking.setdefault(reason, []).append(numbered.line)
    return [at_lines("grader_field_missing", Severity.ERROR, reason, lines) for reason, lines in lacking.items()]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found."""

    trainable: bool
    report_json: str


class CheckJob:
    """Checks a job that nobody keeps (`brain tune check`).

    Args:
        ledger: Records.
        jobs: Drafts jobs.
        inspect: Looks at them.
    """

    def __init__(self, *, ledger: Ledger, jobs: Jobs, inspect: Inspect) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._inspect = inspect

    async def __call__(self, caller: Caller, new: NewJob, *, dry_run: bool) -> CheckReport:
        """Return what validation would find.

        Raises:
            InvalidInput: A field is wrong, or a file is not there for the caller.
            NotFound: A model is not there for the caller.
        """
        await self._jobs.check_files(new)
        draft = await self._jobs.draft(self._ledger, caller, new)
        checked = await self._inspect(draft, dry_run=dry_run)
        return CheckReport(checked.report.trainable, checked.report.to_json())


class ValidateJob:
    """Brings a new job to queued, or to failed with the first thing that is wrong.

    Args:
        ledger: Records.
        inspect: Looks at jobs.
        complete: Fails them.
        delegation: Acts in the owner's name.
        now: Seconds since 1970.
    """

    def __init__(
        self, *, ledger: Ledger, inspect: Inspect, complete: Complete, delegation: Delegation, now: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._inspect = inspect
        self._complete = complete
        self._delegation = delegation
        self._now = now

    async def __call__(self, work: Job) -> None:
        """Validate one job.

        Raises:
            Conflict: It was cancelled or paused, or handed to another worker.
            Unavailable: Something passing; it is to be tried again.
        """
        job = await self._ledger.job(work.tenant, work.key)
        if job is None or job.status is not JobStatus.VALIDATING:
            async with self._ledger.change() as change:
                await change.complete(work)
            return
        with (
            spans.start_as_current_span(VALIDATE_SPAN) as span,
            self._delegation.acting_for(job.owner.caller(job.tenant), work=job.job_id),
        ):
            span.set_attribute("brain.job_id", job.job_id)
            try:
                checked = await self._inspect(job, dry_run=True)
            except _REFUSALS as error:
                await self._complete.fail(work, JobError(_code(error), error.message, error.param or ""))
                return
        if (wrong := checked.report.first_error) is not None:
            await self._refuse(work, checked, wrong)
        else:
            await self._queue(work, checked)

    async def fail(self, work: Job, error: BrainError) -> None:
        """Bring the job behind a validation that will not be tried again to failed."""
        await self._complete.fail(work, JobError("validation_failed", error.message, error.param or ""))

    async def _queue(self, work: Job, checked: Checked) -> None:
        async with self._ledger.change() as change:
            await change.complete(work)
            job = await change.job(work.tenant, work.key)
            if job is None:
                return
            queued = replace(
                job.moved(JobStatus.QUEUED, self._now()),
                spec=checked.spec,
                sources=checked.sources,
                report_json=checked.report.to_json(),
                estimated_s=checked.estimated_s,
                total_steps=checked.total_steps,
            )
            await change.put_job(queued)
            await change.add_event(
                job.tenant,
                event(queued, self._now(), "Files validated, moving job to queued state", data=_data(checked)),
            )
            await change.enqueue(TRAIN_JOB, job.job_id, job.tenant)

    async def _refuse(self, work: Job, checked: Checked, wrong: Finding) -> None:
        """Fail a job; its report stays, so that everything that is wrong can be mended at once."""
        async with self._ledger.change() as change:
            await change.hold(work)
            job = await change.job(work.tenant, work.key)
            if job is not None:
                await change.put_job(replace(job, report_json=checked.report.to_json()))
        code = "invalid_validation_file" if wrong.code.startswith("validation_") else "invalid_training_file"
        param = code.removeprefix("invalid_")
        errors = sum(1 for one in checked.report.findings if one.severity is Severity.ERROR)
        more = f" ({errors - 1} further errors are in the report)" if errors > 1 else ""
        await self._complete.fail(work, JobError(code, f"{wrong.message}{more}", param))


def _code(error: BrainError) -> str:
    if error.param in {"training_file", "validation_file"}:
        return f"invalid_{error.param}"
    return "file_not_found" if isinstance(error, NotFound) else error.code


def _data(checked: Checked) -> dict[str, int | float | str]:
    found: dict[str, int | float | str] = {"rows": checked.report.numbers.get("rows", 0)}
    if checked.estimated_s:
        found |= {"estimated_s": round(checked.estimated_s, 1), "total_steps": checked.total_steps}
    return found
