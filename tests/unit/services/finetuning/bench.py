"""A trainer that does as it is told, and the parts of the room around it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.chassis.auth import Caller
from services.chassis.jobs.table import Job, JobTable
from services.chassis.models.folder import BaseModel
from services.finetuning.backends import tables
from services.finetuning.domain.jobs import TRAIN_JOB, JobStatus, SourceCount, TuningJob
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import Device, Precision, Stage, TrainingPlan
from services.finetuning.domain.training_messages import (
    CheckpointSaved,
    DryRun,
    Finished,
    Message,
    Metrics,
    Paused,
    Started,
)
from services.finetuning.ports.records import Page
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.completing import Complete
from services.finetuning.usecases.jobs import Jobs
from services.finetuning.usecases.preparing import Prepare
from services.finetuning.usecases.publishing import BaseFacts, Publish
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.settling import AwaitEngine
from services.finetuning.usecases.training import TrainJob
from tests.unit.services.finetuning.conftest import BASE, MARA, Room
from tests.unit.services.finetuning.memory import MemoryFiles

TOTAL = 6
Say = Callable[[Message], Awaitable[None]]
Script = Callable[[TrainingPlan, int, Say, asyncio.Event], Awaitable[Finished | Paused]]


def write_adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


async def steps(plan: TrainingPlan, done: int, say: Say, until: int = TOTAL, pause: asyncio.Event | None = None) -> int:
    """Train from `done` on, with a checkpoint at every second step; return the step that was reached."""
    await say(Started(TOTAL, 1000, 2, 0, done))
    for step in range(done + 1, until + 1):
        await say(Metrics(step, step / TOTAL, {"loss": 2.0 / step, "tokens": 100.0 * step, "valid_loss": 3.0 / step}))
        stopping = pause is not None and pause.is_set()
        if step % 2 == 0 or stopping:
            folder = plan.checkpoints / f"step-{step}"
            adapter = write_adapter(folder / "adapter")
            (folder / "step").write_text(str(step))
            await say(CheckpointSaved(step, folder, adapter, {"loss": 2.0 / step}))
        if stopping:
            return step
        await asyncio.sleep(0)
    return until


async def finish(plan: TrainingPlan, say: Say) -> Finished:
    done = Finished(TOTAL, 600, {"loss": 0.33}, adapter_folder=write_adapter(plan.result))
    await say(done)
    return done


async def well(plan: TrainingPlan, done: int, say: Say, pause: asyncio.Event) -> Finished | Paused:
    reached = await steps(plan, done, say, pause=pause)
    return await finish(plan, say) if reached == TOTAL else Paused(reached, plan.checkpoints / f"step-{reached}")


@dataclass
class ScriptedTrainer:
    """Plays one script a run, the last one again and again; `began` holds the steps that runs went on from."""

    scripts: list[Script]
    began: list[int] = field(default_factory=list)
    plans: list[TrainingPlan] = field(default_factory=list)

    async def train(
        self, plan: TrainingPlan, *, resume_from: Path | None, on_message: Say, pause: asyncio.Event
    ) -> Finished | Paused:
        done = 0 if resume_from is None else int((resume_from / "step").read_text())
        script = self.scripts[min(len(self.began), len(self.scripts) - 1)]
        self.began.append(done)
        self.plans.append(plan)
        return await script(plan, done, on_message, pause)

    async def measure(self, plan: TrainingPlan, *, budget_s: float) -> DryRun:
        raise NotImplementedError

    def newest_checkpoint(self, plan: TrainingPlan) -> Path | None:
        return None


@dataclass
class Readers:
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def readers(self, caller: Caller, document_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {one: self.lists[one] for one in document_ids if one in self.lists}


class Nobody:
    @contextmanager
    def acting_for(self, caller: Caller, *, work: str) -> Iterator[None]:
        yield


@dataclass
class Bench:
    """The parts around a trainer."""

    room: Room
    trainer: ScriptedTrainer
    table: JobTable
    files: MemoryFiles
    train: TrainJob
    jobs: Jobs
    readers: Readers

    async def queued(self, **changes: object) -> TuningJob:
        rows = b"".join(
            json.dumps(
                {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "Yes."}]}
            ).encode()
            + b"\n"
            for n in range(12)
        )
        job = TuningJob(
            job_id="ftjob-0123456789ab",
            tenant="acme",
            owner=Owner.of(MARA),
            status=JobStatus.QUEUED,
            model=BASE,
            base_model=BASE,
            parent="",
            wanted=TrainingSpec(Stage.SUPERVISED),
            spec=TrainingSpec(Stage.SUPERVISED),
            training_file=self.files.put(rows),
            validation_file="",
            suffix="hr",
            seed=1,
            metadata={},
            method_json="",
            integrations_json="",
            audience=("group:everyone",),
            created_at=1.0,
            queued_at=1.0,
            sources=(SourceCount("document", "doc_1", 2, 12),),
        )
        job = replace(job, **changes)  # type: ignore[arg-type]
        async with self.room.ledger.change() as change:
            await change.put_job(job)
            await change.enqueue(TRAIN_JOB, job.job_id, job.tenant)
        return job

    async def claim(self, worker: str = "w1", *, lease_s: float = 60.0) -> Job:
        work = await self.table.claim(worker, [TRAIN_JOB], lease_s=lease_s)
        assert work is not None
        return work

    async def now(self) -> TuningJob:
        job = await self.room.ledger.job("acme", "ftjob-0123456789ab")
        assert job is not None
        return job

    async def said(self) -> list[str]:
        events = await self.room.ledger.events("ftjob-0123456789ab", Page(100))
        return [event.message for event in reversed(events)]

    async def adapters(self) -> list[str]:
        found = await self.room.ledger.adapters_of_job("acme", "ftjob-0123456789ab")
        return sorted(version.name for version in found)


def new_bench(room: Room, tmp_path: Path) -> Bench:
    """Return the parts, joined."""
    files, readers, trainer = MemoryFiles(), Readers({"doc_1": ("group:staff",)}), ScriptedTrainer([well])
    archives = Archives(blobs=room.blobs)
    base = BaseModel(BASE, tmp_path / "base", "b" * 64, "t" * 64, 576)
    complete = Complete(
        ledger=room.ledger,
        publish=Publish(
            blobs=room.blobs,
            serving=room.engine,
            readers=readers,
            base=BaseFacts(BASE, base.digest, base.template_hash, "Apache-2.0"),
            now=room.now,
        ),
        await_engine=AwaitEngine(serving=room.engine, patience_s=0.3),
        archives=archives,
        files=files,
        scratch=tmp_path / "scratch",
        metrics=room.metrics,
        now=room.now,
    )
    train = TrainJob(
        ledger=room.ledger,
        trainer=trainer,
        read_rows=ReadRows(files=files),
        serving=room.engine,
        prepare=Prepare(
            ledger=room.ledger,
            blobs=room.blobs,
            archives=archives,
            base=base,
            device=Device.AUTO,
            precision=Precision.AUTO,
        ),
        complete=complete,
        archives=archives,
        delegation=Nobody(),
        scratch=tmp_path / "scratch",
        max_deaths=3,
        keep_checkpoints=2,
        price_per_hour=0.0,
        metrics=room.metrics,
        now=room.now,
    )
    jobs = Jobs(
        ledger=room.ledger, files=files, base_model=BASE, audience=(), devices=1, metrics=room.metrics, now=room.now
    )
    return Bench(room, trainer, JobTable(room.database, tables.jobs), files, train, jobs, readers)
