"""vLLM by hand: a bare script that loads adapters into an engine of its own, and the handle by which it is told to.

The script gets the engine arguments of the generation room but for the room's own worker extension, and nothing of the
room stands around it: no event, no copy of the files, no look into them, no comparison. Handle and script exchange lines of
JSON. `Trickle` and `CpuMeter` serve both arms, so that both are measured alike.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil

from services.chassis.models.folder import open_model
from services.generation.backends.adapter_files import base_shapes
from services.generation.bootstrap import engine_environment, engine_options
from services.generation.settings import GenerationSettings

__all__ = [
    "BASE_PROMPT",
    "BASE_TOKENS",
    "PERIOD_S",
    "ByHand",
    "CpuMeter",
    "Task",
    "Trickle",
    "vllm_by_hand",
]

# Shorter than a block of the prefix cache: read anew each time, in both arms.
BASE_PROMPT: Final = "The capital of France is"
BASE_TOKENS: Final = 2
# A step of the engine takes about 0.1 s on a shared core: at this pace it is idle most of the time.
PERIOD_S: Final = 1.0
_END_S: Final = 60
_ROOT: Final = Path(__file__).resolve().parents[1]


class Trickle:
    """Small requests at a steady pace: the next is sent whether or not the one before was answered.

    Args:
        ask: Sends one and returns when it is answered; whatever it raises is a failed request.
        busy: Whether any are sent at all.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]], *, busy: bool) -> None:
        self._ask = ask
        self._busy = busy
        self._sent: list[asyncio.Task[None]] = []
        self._pace: asyncio.Task[None] | None = None
        self.slowest_s = 0.0
        self.errors: list[str] = []

    @property
    def asked(self) -> int:
        """How many were sent."""
        return len(self._sent)

    async def __aenter__(self) -> Self:
        if self._busy:
            self._pace = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._pace is not None:
            self._pace.cancel()
        await asyncio.gather(*self._sent)

    async def _run(self) -> None:
        while True:
            self._sent.append(asyncio.create_task(self._one()))
            await asyncio.sleep(PERIOD_S)

    async def _one(self) -> None:
        began = time.perf_counter()
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001  whatever it is, somebody was not answered
            self.errors.append(repr(error))
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)


class CpuMeter:
    """Reads the CPU time that a process and its children have taken (Linux counts it in hundredths of a second).

    Args:
        pid: The process; its children of later are not seen.
    """

    def __init__(self, pid: int) -> None:
        root = psutil.Process(pid)
        self._processes = [root, *root.children(recursive=True)]

    def seconds(self) -> float:
        """Return what they have taken so far."""
        return sum(times.user + times.system for times in (one.cpu_times() for one in self._processes))


@dataclass(frozen=True)
class Task:
    """What both arms do in a round.

    Attributes:
        number: Of the round, from 1.
        path: Folder with the adapter's files.
        prompt: What it is asked.
        busy: Whether base requests come meanwhile.
        offset_s: Seconds from the first of these to the load.
    """

    number: int
    path: str
    prompt: str
    busy: bool
    offset_s: float

    @property
    def name(self) -> str:
        """The adapter's name."""
        return f"ft:bench:{self.number}"


@dataclass(frozen=True)
class ByHand:
    """The script that runs.

    Attributes:
        process: The script.
        log: What it and its engine say beside the answers.
        restart_s: From the start of its process to the first token of its engine.
    """

    process: asyncio.subprocess.Process
    log: Path
    restart_s: float

    async def round(self, task: Task) -> Mapping[str, Any]:
        """Load an adapter and ask it for one token; return what the script measured."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        return await _answer(self.process, self.log)


@asynccontextmanager
async def vllm_by_hand(log: Path) -> AsyncIterator[ByHand]:
    """Start the script, yield it when its engine has produced a token, and end it.

    Raises:
        RuntimeError: It ended by itself; its last words are in the message.
    """
    began = time.perf_counter()
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks._adapters"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=_ROOT,
            env=os.environ | engine_environment(GenerationSettings()),
            # The engine is a process below it: both are ended together.
            start_new_session=True,
        )
    try:
        await _answer(process, log)
        yield ByHand(process, log, time.perf_counter() - began)
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _answer(process: asyncio.subprocess.Process, log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        said = await asyncio.to_thread(log.read_text, errors="replace")
        raise RuntimeError(f"vLLM by hand ended before it answered:\n{said[-4000:]}")
    return dict(json.loads(line))


class _Script:
    """The engine of the bare script.

    Args:
        llm: vLLM's front end.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._meter = CpuMeter(os.getpid())
        self._numbers = itertools.count()

    async def ask(self, prompt: str, tokens: int, lora: Any = None) -> tuple[list[int], int]:
        """Return the greedy continuation of a prompt, and how much of the prompt the prefix cache held."""
        from vllm import SamplingParams  # noqa: PLC0415  in the script only
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, output_kind=RequestOutputKind.DELTA)
        said: list[int] = []
        cached = 0
        async for output in self._llm.generate(prompt, params, f"by-hand-{next(self._numbers)}", lora_request=lora):
            said += output.outputs[0].token_ids
            cached = max(cached, output.num_cached_tokens or 0)
        return said, cached

    async def ask_base(self) -> None:
        """Send a base request as it comes meanwhile."""
        said, _ = await self.ask(BASE_PROMPT, BASE_TOKENS)
        if len(said) != BASE_TOKENS:
            raise RuntimeError(f"{len(said)} tokens instead of {BASE_TOKENS}")

    async def round(self, task: Task) -> dict[str, Any]:
        """Load an adapter and ask it."""
        from vllm.lora.request import LoRARequest  # noqa: PLC0415  in the script only

        lora = LoRARequest(task.name, task.number, task.path)
        async with Trickle(self.ask_base, busy=task.busy) as trickle:
            await asyncio.sleep(task.offset_s)
            cpu_s = self._meter.seconds()
            began = time.perf_counter()
            await self._llm.add_lora(lora)
            loaded = time.perf_counter()
            [token], cached = await self.ask(task.prompt, 1, lora)
            ended = time.perf_counter()
            cpu_s = self._meter.seconds() - cpu_s
        return {
            "load_s": loaded - began,
            "request_s": ended - loaded,
            "cpu_s": cpu_s,
            "token": token,
            "cached_tokens": cached,
            "slowest_s": trickle.slowest_s,
            "errors": trickle.errors,
        }


async def _run(say: Callable[[Mapping[str, Any]], None]) -> None:
    """Start the engine and do what is ordered until the orders end."""
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415  in the script only: it takes tens of seconds

    settings = GenerationSettings()
    base = await open_model(settings.model, cache=settings.cache_dir)
    options = engine_options(settings, base, base_shapes(base.folder))
    if options.compiles_nothing:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    arguments = options.engine_args()
    arguments.worker_extension_cls = ""
    llm = AsyncLLM.from_engine_args(arguments)
    try:
        script = _Script(llm)
        await script.ask(BASE_PROMPT, 1)
        say({"ready": True})
        while order := await asyncio.to_thread(sys.stdin.readline):
            say(await script.round(Task(**json.loads(order))))
    finally:
        llm.shutdown()


def _main() -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    asyncio.run(_run(say))


if __name__ == "__main__":
    _main()
