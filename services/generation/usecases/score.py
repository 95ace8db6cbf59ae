"""Scores given continuations of a prompt."""

import asyncio
from collections.abc import Sequence

from services.chassis.auth import Caller
from services.chassis.errors import BrainError, InvalidInput
from services.generation.domain import Prompt, Sampling, Score, Work, cache_salt, check_window
from services.generation.ports import Engine
from services.generation.usecases.admission import Admission
from services.generation.usecases.models import Models

__all__ = ["ScoreContinuations"]

MAX_CONTINUATIONS = 64
# Scored at once: enough to fill the engine's batch without letting one request take all of it.
_AT_ONCE = 4


class ScoreContinuations:
    """Tells how likely the model finds each of several continuations.

    Args:
        engine: What scores.
        models: Finds and holds the model that a name stands for.
        admission: Refuses what is too much; a request takes as many places as it scores continuations at once.
    """

    def __init__(self, *, engine: Engine, models: Models, admission: Admission) -> None:
        self._engine = engine
        self._models = models
        self._admission = admission

    async def __call__(
        self, *, caller: Caller, model: str, prompt: Prompt, continuations: Sequence[str]
    ) -> list[Score]:
        """Return the scores in the order of the continuations.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: The model is blocked or withheld, or came to be.
            Conflict: This room refuses the model.
            InvalidInput: No, too many or empty continuations, or they do not fit the context window.
            Overloaded: The room is full.
            Unavailable: The engine failed.
        """
        if not 1 <= len(continuations) <= MAX_CONTINUATIONS:
            raise InvalidInput(
                f"continuations: {len(continuations)} given; use 1 to {MAX_CONTINUATIONS}.", param="continuations"
            )
        if not all(continuations):
            raise InvalidInput("continuations: none may be empty.", param="continuations")
        places = min(_AT_ONCE, len(continuations))
        async with self._models.hold(caller, model) as held, self._admission.admitted(places):
            encoded = await self._engine.encode(prompt)
            check_window(len(encoded.ids), Sampling(), self._engine.base.context_window)
            salt = cache_salt(caller.tenant)
            work = Work(prompt=encoded, sampling=Sampling(max_tokens=1), salt=salt, adapter=held.adapter)
            gate = asyncio.Semaphore(places)

            async def one(continuation: str) -> Score:
                async with gate:
                    return await self._engine.score(work, continuation)

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(continuation)) for continuation in continuations]
            except* BrainError as errors:
                # The first is what the caller is told; the others have the same cause or were cancelled for it.
                raise _first(errors) from None
            held.check()
            return [task.result() for task in tasks]


def _first(errors: BaseExceptionGroup[BrainError]) -> BrainError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BrainError)
    return error
