"""Jobs that reach the room: validating, training, making datasets."""

from collections.abc import Awaitable, Callable, Mapping

from services.chassis.errors import BrainError
from services.chassis.jobs.table import Job
from services.finetuning.domain.datasets import BUILD_JOB
from services.finetuning.domain.jobs import TRAIN_JOB, VALIDATE_JOB
from services.finetuning.usecases.datasets import MakeDataset
from services.finetuning.usecases.training import TrainJob
from services.finetuning.usecases.validating import ValidateJob

__all__ = ["failing", "light", "training"]

Handler = Callable[[Job], Awaitable[None]]


def light(validate: ValidateJob, make: MakeDataset) -> Mapping[str, Handler]:
    """Return what does the work that needs no device to itself."""
    return {VALIDATE_JOB: validate, BUILD_JOB: make}


def training(train: TrainJob) -> Mapping[str, Handler]:
    """Return what does the work that takes a device."""
    return {TRAIN_JOB: train}


def failing(validate: ValidateJob, make: MakeDataset, train: TrainJob) -> Callable[[Job, BrainError], Awaitable[None]]:
    """Return what brings the subject of work that will not be tried again to its end."""
    by_kind = {VALIDATE_JOB: validate.fail, BUILD_JOB: make.fail, TRAIN_JOB: train.fail}

    async def fail(work: Job, error: BrainError) -> None:
        await by_kind[work.kind](work, error)

    return fail
