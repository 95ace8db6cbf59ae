"""What the trainer reads: settings that are chosen, rows, the weights that a job starts from."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from services.chassis.errors import Conflict, InvalidInput
from services.finetuning.domain.adapters import AdapterStatus
from services.finetuning.domain.jobs import TuningJob
from services.finetuning.domain.row_reading import NumberedRow
from services.finetuning.domain.rows import as_line
from services.finetuning.domain.spec import Lora, TrainingSpec
from services.finetuning.domain.training import TrainingPlan, defaults_of
from services.finetuning.ports.records import Ledger
from services.finetuning.ports.serving import EngineLimits
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.completing import reward_model_key
from services.finetuning.usecases.publishing import CONFIG, WEIGHTS
from services.finetuning.usecases.reading import ReadRows

__all__ = ["Prepare"]
