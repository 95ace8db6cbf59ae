"""Brings adapters into the engine: fetched, looked at, loaded, and compared with the base model."""

import asyncio
import itertools
import math
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from services.chassis.errors import (
    BrainError,
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    TooLarge,
    Unavailable,
)
from services.generation.domain import Adapter, AdapterFiles, Refusal, Sampling, Score, Work, cache_salt
from services.generation.ports import AdapterShelf, Engine, TrialTable
from services.generation.telemetry import Metrics
from services.generation.usecases.registry import Entry, Registry, Standing

__all__ = ["LoadAdapters"]

_log = structlog.get_logger()
# What passes by itself.
_TRANSIENT: Final = (Unavailable, DeadlineExceeded, Overloaded)
_WHY: Final = {
    InvalidInput: Refusal.FILES,
    TooLarge: Refusal.TOO_LARGE,
    NotFound: Refusal.MISSING,
    Conflict: Refusal.DIGEST,
}
# How often files are tried that ended the engine before: it is started again, and must not end for ever.
_MAX_TRIES: Final = 2
_RETRY_EVERY_S: Final = 5.0
# What base and adapter are compared on: short, for others wait while it is read; any real change moves every position.
_PROMPT: Final = "The quick brown fox"
_CONTINUATION: Final = " jumps over the lazy dog."


class _Refused(Exception):
    """An adapter that this room does not serve."""

    def __init__(self, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class LoadAdapters:
    """Loads adapters, each once however many wait for it, and takes out what is no longer served.

    Args:
        engine: What serves them.
        shelf: Their files.
        trials: Remembers what the engine is tried with.
        registry: What is known of them.
        metrics: Where times and refusals are counted.
    """

    def __init__(
        self, *, engine: Engine, shelf: AdapterShelf, trials: TrialTable, registry: Registry, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._shelf = shelf
        self._trials = trials
        self._registry = registry
        self._metrics = metrics
        self._numbers = itertools.count(1)
        # Files that were compared with the base model since the engine started.
        self._proven: set[str] = set()
        # One at a time: the engine stops its steps while it reads an adapter.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def prepare(self, entry: Entry) -> None:
        """Wait until an adapter is in the engine, or the entry says why it is not."""
        if entry.adapter is None:
            # Who leaves does not end what others wait for.
            await asyncio.shield(self.start(entry))

    async def take(self, entry: Entry) -> Adapter:
        """Return an adapter that was prepared, and keep its files until `give_back`.

        Raises:
            BrainError: It cannot be had at the moment.
        """
        if entry.adapter is None:
            raise entry.trouble or Unavailable(f"{entry.name!r} is not loaded.", retry_after_s=1.0)
        await self._shelf.take(entry.source)
        return entry.adapter

    def give_back(self, entry: Entry) -> None:
        """Say that one taker is done with the files."""
        self._shelf.give_back(entry.source)

    def start(self, entry: Entry) -> asyncio.Task[None]:
        """Begin to load an adapter; return the task, which fails never: the entry says what came of it."""
        if entry.loading is None:
            entry.loading = self._spawn(self._run(entry))
        return entry.loading

    def settle(self, entry: Entry) -> None:
        """Take an adapter that is no longer served out of the engine, once nothing runs on it; a deleted one's files too."""
        if entry.leases or entry.loading is not None or entry.may_serve():
            return
        adapter, entry.adapter = entry.adapter, None
        if adapter is not None or entry.standing is Standing.GONE:
            self._spawn(self._clear(entry, adapter))

    def refuse(self, entry: Entry, code: Refusal, reason: str) -> None:
        """Serve an adapter no longer, and say why to whoever asks for it."""
        if entry.may_serve():
            entry.standing = Standing.REFUSED
        entry.refusal = (code, reason)
        self._metrics.adapter_refusals.labels(reason=code.value).inc()
        _log.error("adapter_refused", adapter=entry.name, tenant=entry.tenant, code=code.value, reason=reason)

    async def run(self) -> None:
        """Try again, for ever, what could not be had for a reason that passes."""
        while True:
            await asyncio.sleep(_RETRY_EVERY_S)
            for entry in self._registry:
                if entry.standing is Standing.WAITING and entry.trouble is not None:
                    self.start(entry)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, entry: Entry) -> None:
        entry.trouble = None
        try:
            await self._load(entry)
        except _Refused as refused:
            self.refuse(entry, refused.code, refused.reason)
        except _TRANSIENT as error:
            entry.trouble = error
            _log.warning("adapter_load_waits", adapter=entry.name, reason=error.message, private=error.private)
        except Exception as error:  # noqa: BLE001  the outermost loop of a load: whatever it is, others are served on
            _log.error("adapter_load_crashed", adapter=entry.name, exc_info=error)
            self.refuse(entry, Refusal.CRASHED, "Loading it failed on our side; the log has the details.")
        finally:
            entry.loading = None
            self.settle(entry)
            self._registry.count()

    async def _load(self, entry: Entry) -> None:
        if not entry.may_serve():
            return
        if entry.adapter is not None:
            # Blocked and published again while something still ran on it.
            entry.standing = Standing.READY
            return
        self._check_base(entry)
        took: dict[str, float] = {}
        with self._timed("files", took):
            files = await self._files(entry)
        try:
            async with self._turn:
                if not entry.may_serve():
                    return
                adapter = Adapter(next(self._numbers), entry.tenant, entry.name, files)
                await self._tried(adapter, entry.source.content, took)
                entry.adapter = adapter
                # It may have been blocked meanwhile; then it goes out of the engine again.
                if entry.may_serve():
                    entry.standing = Standing.READY
        finally:
            self._shelf.give_back(entry.source)
        seconds = {f"{stage}_s": round(value, 3) for stage, value in took.items()}
        _log.info("adapter_ready", adapter=entry.name, digest=files.digest, rank=files.rank, **seconds)

    def _check_base(self, entry: Entry) -> None:
        """Refuse an adapter of another base model or template; where the engine has no files of its own all fit."""
        if entry.state is None:
            return
        base = self._engine.base
        for code, has, was in (
            (Refusal.BASE, base.base_digest, entry.state.base_digest),
            (Refusal.TEMPLATE, base.template_hash, entry.state.template_hash),
        ):
            if has and has != was:
                raise _Refused(code, f"It was trained with {code.value} {was or '(unknown)'}; the engine has {has}.")

    async def _files(self, entry: Entry) -> AdapterFiles:
        try:
            return await self._shelf.take(entry.source)
        except (InvalidInput, TooLarge, NotFound, Conflict) as error:
            raise _Refused(_WHY[type(error)], error.message) from error

    async def _tried(self, adapter: Adapter, content: str, took: dict[str, float]) -> None:
        """Load an adapter and see what it does; noted before, so that one which ends the process is not tried for ever."""
        if await self._trials.begin(content) > _MAX_TRIES:
            raise _Refused(Refusal.ENGINE_DIED, "The engine ended when it was tried with these files.")
        died = False
        try:
            with self._timed("load", took):
                await self._into_engine(adapter)
            if content not in self._proven:
                with self._timed("compare", took):
                    await self._compare(adapter)
                self._proven.add(content)
        except _Refused:
            await self._engine.unload(adapter)
            raise
        except Unavailable:
            died = self._has_died()
            raise
        finally:
            if not died:
                await self._trials.end(content)

    async def _into_engine(self, adapter: Adapter) -> None:
        try:
            await self._engine.load(adapter)
        except InvalidInput as error:
            raise _Refused(Refusal.ENGINE, error.message) from error

    async def _compare(self, adapter: Adapter) -> None:
        """Refuse an adapter that changes nothing: the engine has read it as something that it is not."""
        prompt = await self._engine.encode(_PROMPT)

        def work(one: Adapter | None) -> Work:
            return Work(prompt, Sampling(max_tokens=1), cache_salt("adapter-comparison"), one)

        # Both at once: computed in the same steps, equal models give equal numbers.
        base, own = await asyncio.gather(
            self._engine.score(work(None), _CONTINUATION), self._engine.score(work(adapter), _CONTINUATION)
        )
        if not _is_finite(own):
            raise _Refused(Refusal.NOT_FINITE, "With it the model computes no finite numbers.")
        if own.token_logprobs == base.token_logprobs:
            raise _Refused(Refusal.NO_EFFECT, "With it the model answers exactly as without it.")

    def _has_died(self) -> bool:
        try:
            self._engine.check()
        except Unavailable:
            return True
        return False

    async def _clear(self, entry: Entry, adapter: Adapter | None) -> None:
        try:
            if adapter is not None:
                await self._engine.unload(adapter)
            if entry.standing is Standing.GONE:
                await self._shelf.remove(entry.source)
        except BrainError as error:
            # The engine died, and everything in it with it.
            _log.warning("adapter_not_cleared", adapter=entry.name, reason=error.message)

    @contextmanager
    def _timed(self, stage: str, took: dict[str, float]) -> Iterator[None]:
        began = time.perf_counter()
        yield
        took[stage] = time.perf_counter() - began
        self._metrics.adapter_load.labels(stage=stage).observe(took[stage])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_finite(score: Score) -> bool:
    return all(math.isfinite(it) for it in score.token_logprobs)
