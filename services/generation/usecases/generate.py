"""Streams the continuation of a prompt."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from opentelemetry import trace

from services.chassis.auth import Caller
from services.chassis.errors import NotFound, PermissionDenied, Unavailable
from services.generation.domain import (
    Finish,
    Prompt,
    Sampling,
    Started,
    Step,
    Work,
    cache_salt,
    check_window,
    prompt_hash,
)
from services.generation.ports import Engine
from services.generation.telemetry import Metrics, describe_end, describe_start
from services.generation.usecases.admission import Admission
from services.generation.usecases.models import Models

__all__ = ["Generate"]


class Generate:
    """Answers one prompt, step by step.

    Args:
        engine: What continues.
        models: Finds and holds the model that a name stands for.
        admission: Refuses what is too much.
        metrics: Where tokens and times are counted.
    """

    def __init__(self, *, engine: Engine, models: Models, admission: Admission, metrics: Metrics) -> None:
        self._engine = engine
        self._models = models
        self._admission = admission
        self._metrics = metrics

    async def __call__(
        self, *, caller: Caller, model: str, prompt: Prompt, sampling: Sampling
    ) -> AsyncGenerator[Started | Step, None]:
        """Yield what is known before the first token, then every step; closing the generator ends the work.

        When the engine fails, or the model is blocked meanwhile, each continuation that has not ended gets a last step
        with `Finish.ERROR` before the error is raised: a stream is never just silent. A model that is blocked ends at
        its next step, which is not handed out.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: The model is blocked or withheld, or came to be.
            Conflict: This room refuses the model.
            InvalidInput: A parameter is wrong or the prompt does not fit the context window.
            Overloaded: The room is full.
            Unavailable: The engine failed, or the model's files cannot be had at the moment.
        """
        async with self._models.hold(caller, model) as held, self._admission.admitted(sampling.n):
            began = time.perf_counter()
            encoded = await self._engine.encode(prompt)
            limit = check_window(len(encoded.ids), sampling, self._engine.base.context_window)
            started = Started(model=held.name, prompt_tokens=len(encoded.ids), prompt_hash=prompt_hash(encoded.ids))
            span = trace.get_current_span()
            describe_start(span, started, sampling, self._engine.base.engine)
            yield started
            work = Work(
                prompt=encoded,
                sampling=replace(sampling, max_tokens=limit),
                salt=cache_salt(caller.tenant),
                adapter=held.adapter,
            )
            tally = _Tally(sampling.n)
            try:
                async with aclosing(self._engine.generate(work)) as steps:
                    async for step in steps:
                        held.check()
                        if tally.add(step):
                            self._metrics.first_token.observe(time.perf_counter() - began)
                        yield step
            except (Unavailable, PermissionDenied, NotFound):
                for index in sorted(tally.open):
                    yield Step(index, "", (), finish=Finish.ERROR)
                    tally.ended[index] = Finish.ERROR
                raise
            finally:
                reasons = tally.reasons()
                for reason in reasons:
                    self._metrics.finished.labels(reason=reason).inc()
                kind = "adapter" if held.adapter else "base"
                self._metrics.tokens.labels(model=kind, kind="prompt").inc(len(encoded.ids))
                self._metrics.tokens.labels(model=kind, kind="cached").inc(tally.cached)
                self._metrics.tokens.labels(model=kind, kind="completion").inc(tally.completion)
                describe_end(span, tally.completion, tally.cached, reasons)


class _Tally:
    """Counts what came of the continuations of one request."""

    def __init__(self, n: int) -> None:
        self.open = set(range(n))
        self.ended: dict[int, Finish] = {}
        self.completion = 0
        self.cached = 0

    def add(self, step: Step) -> bool:
        """Count a step; return whether it holds the first token of all."""
        first = self.completion == 0 and len(step.token_ids) > 0
        self.completion += len(step.token_ids)
        self.cached = max(self.cached, step.cached_tokens)
        if step.finish is not None:
            self.open.discard(step.index)
            self.ended[step.index] = step.finish
        return first

    def reasons(self) -> list[str]:
        """Return how each continuation ended; what had not ended was cancelled."""
        return [finish.value for finish in self.ended.values()] + [Finish.CANCELLED.value] * (
            len(self.open - self.ended.keys())
        )
