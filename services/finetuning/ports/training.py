"""What trains."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import DryRun, Finished, Message, Paused

__all__ = ["Run", "Trainer"]


class Run(Protocol):
    """A training that runs."""

    def messages(self) -> AsyncIterator[Message]:
        """Yield what happens, until it ends."""
        ...

    async def outcome(self) -> Finished | Paused:
        """Return how it ended; after the last message.

        Raises:
            InvalidInput: The rows or settings cannot be trained.
            TooLarge: Memory did not suffice.
            Internal: Training failed for another reason.
            Unavailable: The process was killed; it may go on from its newest checkpoint.
        """
        ...

    def pause(self) -> None:
        """Have it stop at its next step, with a checkpoint; again changes nothing."""
        ...


class Trainer(Protocol):
    """Trains one plan at a time for each caller."""

    def run(self, plan: TrainingPlan, *, resume_from: Path | None) -> AbstractAsyncContextManager[Run]:
        """Begin to train; leaving the block ends what still runs."""
        ...

    async def measure(self, plan: TrainingPlan) -> DryRun:
        """Take a few steps on a plan's rows, and estimate the whole.

        Raises:
            InvalidInput: The rows or settings cannot be trained.
            TooLarge: Memory did not suffice.
            Internal: It failed for another reason.
            Unavailable: The process was killed.
        """
        ...
