"""What the trainer reads: settings that are chosen, rows, and the weights that a job starts from."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.chassis.errors import Conflict, InvalidInput
from services.chassis.models.folder import BaseModel
from services.finetuning.domain.adapters import AdapterStatus, AdapterVersion
from services.finetuning.domain.jobs import JobStatus, TuningJob
from services.finetuning.domain.row_reading import RowFile
from services.finetuning.domain.rows import as_line
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import Device, LoraShape, Precision, TrainingPlan, TrainingSettings
from services.finetuning.ports.blobs import Blobs
from services.finetuning.ports.records import Ledger
from services.finetuning.ports.serving import EngineLimits
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.completing import reward_model_key
from services.finetuning.usecases.publishing import CONFIG, WEIGHTS

__all__ = ["Prepare", "Rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a job."""

    training: RowFile
    validation: RowFile | None


class Prepare:
    """Chooses settings and lays out a folder for the trainer.

    Args:
        ledger: Records.
        blobs: Where adapters lie.
        archives: Where reward models lie.
        base: The base model.
        device: Where training happens.
        precision: How the frozen weights are held.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        archives: Archives,
        base: BaseModel,
        device: Device,
        precision: Precision,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._archives = archives
        self._base = base
        self._device = device
        self._precision = precision

    async def settings(
        self, job: TuningJob, spec: TrainingSpec, limits: EngineLimits, *, rows: int
    ) -> TrainingSettings:
        """Return how a job is trained, with everything chosen.

        Raises:
            InvalidInput: A value is not allowed, or not beside the adapter that the job starts from.
            Conflict: The adapter that it starts from is blocked or gone.
        """
        start = None
        if job.parent:
            parent = await self._usable(job.tenant, job.parent)
            start = _shape(await self._blobs.get(parent.config_key))
        return spec.settings(rows=rows, width=self._base.width, seed=job.seed, start=start, max_rank=limits.max_rank)

    async def plan(
        self, job: TuningJob, settings: TrainingSettings, limits: EngineLimits, rows: Rows, folder: Path
    ) -> TrainingPlan:
        """Write what the trainer reads into a folder, and return the plan.

        Raises:
            Conflict: Something that the job starts from is blocked or gone.
        """
        spec = job.wanted
        start = await self._adapter(job.tenant, job.parent, folder / "start") if job.parent else None
        judge = await self._judge(job, folder / "judge") if spec.judge_model else None
        reward = await self._reward_model(job, folder / "reward-model") if spec.reward_model else None
        training = folder / "rows.jsonl"
        await asyncio.to_thread(_write, training, rows.training)
        validation = None
        if rows.validation is not None and rows.validation.rows:
            validation = folder / "validation.jsonl"
            await asyncio.to_thread(_write, validation, rows.validation)
        return TrainingPlan(
            stage=spec.stage,
            base_folder=self._base.folder,
            base_name=self._base.name,
            rows=training,
            work=folder,
            settings=settings,
            start_adapter=start,
            validation_rows=validation,
            reward_model=reward,
            grader_json=spec.grader_json,
            constitution=spec.constitution,
            judge_adapter=judge,
            allowed_modules=frozenset(limits.modules),
            device=self._device,
            precision=self._precision,
        )

    async def _judge(self, job: TuningJob, folder: Path) -> Path | None:
        if job.wanted.judge_model in {"", "default", self._base.name}:
            return None
        return await self._adapter(job.tenant, job.wanted.judge_model, folder)

    async def _adapter(self, tenant: str, name: str, folder: Path) -> Path:
        version = await self._usable(tenant, name)
        await self._archives.fetch_file(version.config_key, folder / CONFIG)
        await self._archives.fetch_file(version.weights_key, folder / WEIGHTS)
        return folder

    async def _reward_model(self, job: TuningJob, folder: Path) -> Path:
        maker = await self._ledger.job(job.tenant, job.wanted.reward_model)
        if maker is None or maker.status is not JobStatus.SUCCEEDED:
            raise Conflict(
                f"reward_model: {job.wanted.reward_model} has not made a reward model.", param="brain.reward_model"
            )
        return await self._archives.fetch(reward_model_key(job.tenant, maker.job_id), folder)

    async def _usable(self, tenant: str, name: str) -> AdapterVersion:
        version = await self._ledger.adapter(tenant, name)
        if version is None or version.status is not AdapterStatus.PUBLISHED:
            raise Conflict(f"model: the adapter {name} is blocked or gone.", param="model")
        return version


_SHAPE: Final = ("r", "lora_alpha", "target_modules")


def _shape(config: bytes) -> LoraShape:
    """Return the shape of an adapter from its configuration (PEFT's)."""
    read: dict[str, Any] = json.loads(config)
    if any(key not in read for key in _SHAPE):
        raise InvalidInput("model: the adapter's configuration is not one of LoRA.", param="model")
    targets = read["target_modules"]
    names: Iterable[str] = [] if isinstance(targets, str) else targets
    return LoraShape(
        rank=int(read["r"]),
        alpha=float(read["lora_alpha"]),
        target_modules=tuple(sorted(names)),
        rank_stabilised=bool(read.get("use_rslora", False)),
    )


def _write(path: Path, rows: RowFile) -> None:
    with path.open("wb") as target:
        for row in rows.rows:
            target.write(as_line(row.row))
