"""What trains: a plan in, messages on the way, a result."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import DryRun, Finished, Message, Paused

__all__ = ["OnMessage", "Trainer"]

OnMessage = Callable[[Message], Awaitable[None]]


class Trainer(Protocol):
    """Carries out training plans, each apart from the room: whatever happens to it, the room goes on."""

    async def train(
        self,
        plan: TrainingPlan,
        *,
        resume_from: Path | None,
        on_message: OnMessage,
        pause: asyncio.Event,
    ) -> Finished | Paused:
        """Train, and return how it ended.

        Cancelling the task that waits ends the training; its checkpoints stay.

        Args:
            plan: What to train. Its work folder belongs to this training alone.
            resume_from: Checkpoint to go on from; None begins.
            on_message: Told of everything in order, the last message included; while it runs, no later one is read, and
                when it raises, the training is ended and the error goes on.
            pause: When set, training stops after its present step and leaves a checkpoint.

        Raises:
            InvalidInput: Rows, models or settings do not allow it; another try would end alike. `on_message` was told
                `Failed` with the code.
            Internal: It failed in a way that is nobody's wish. `on_message` was told `Failed`.
            Unavailable: The process was killed (by a person, or for want of memory): it can go on from the newest
                checkpoint.
        """

    async def measure(self, plan: TrainingPlan, *, budget_s: float) -> DryRun:
        """Take a few steps on the plan's own rows, write nothing, and return what they showed.

        Args:
            plan: What would be trained.
            budget_s: Seconds after which no further step is begun; loading comes on top.

        Raises:
            InvalidInput: The plan could not be trained.
            Internal: It failed in a way that is nobody's wish.
            Unavailable: The process was killed.
        """

    def newest_checkpoint(self, plan: TrainingPlan) -> Path | None:
        """Return the newest whole checkpoint in the plan's work folder; None when there is none."""
