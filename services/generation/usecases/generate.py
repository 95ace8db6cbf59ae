"""Streams the continuation of a prompt."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from opentelemetry import trace

from services.chassis.errors import Unavailable
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
from services.generation.usecases.adapters import Adapters
from services.generation.usecases.admission import Admission

__all__ = ["Generate"]


class Generate:
    """Answers one prompt, step by step.

    Args:
        engine: What continues.
        adapters: Finds the adapter that a model name stands for.
        admission: Refuses what is too much.
        metrics: Where tokens and times are counted.
    """

    def __init__(self, *, engine: Engine, adapters: Adapters, admission: Admission, metrics: Metrics) -> None:
        self._engine = engine
        self._adapters = adapters
        self._admission = admission
        self._metrics = metrics

    async def __call__(
        self, *, tenant: str, model: str, prompt: Prompt, sampling: Sampling
    ) -> AsyncGenerator[Started | Step, None]:
        """Yield what is known before the first token, then every step; closing the generator ends the work.

        When the engine fails, each continuation that has not ended gets a last step with `Finish.ERROR` before the
        error is raised: a stream is never just silent.

        Raises:
            NotFound: The tenant has no such model.
            InvalidInput: A parameter is wrong or the prompt does not fit the context window.
            Overloaded: The room is full.
            Unavailable: The engine failed.
        """
        adapter = self._adapters.find(tenant, model)
        async with self._admission.admitted(sampling.n):
            began = time.perf_counter()
            encoded = await self._engine.encode(prompt)
            limit = check_window(len(encoded.ids), sampling, self._engine.base.context_window)
            started = Started(
                model=adapter.name if adapter else self._engine.base.name,
                prompt_tokens=len(encoded.ids),
                prompt_hash=prompt_hash(encoded.ids),
            )
            span = trace.get_current_span()
            describe_start(span, started, sampling, self._engine.base.engine)
            yield started
            work = Work(
                prompt=encoded,
                sampling=replace(sampling, max_tokens=limit),
                salt=cache_salt(tenant),
                adapter=adapter,
            )
            tally = _Tally(sampling.n)
            try:
                async with aclosing(self._engine.generate(work)) as steps:
                    async for step in steps:
                        if tally.add(step):
                            self._metrics.first_token.observe(time.perf_counter() - began)
                        yield step
            except Unavailable:
                for index in sorted(tally.open):
                    yield Step(index, "", (), finish=Finish.ERROR)
                    tally.ended[index] = Finish.ERROR
                raise
            finally:
                reasons = tally.reasons()
                for reason in reasons:
                    self._metrics.finished.labels(reason=reason).inc()
                kind = "adapter" if adapter else "base"
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
