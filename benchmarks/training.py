"""Training beside a bare TRL script on the same rows: real tokens a second at equal loss, and what a job costs beside it.

Both train the same adapter on the same rows for one epoch in the same batches' size, at the same rate, each in a process of
its own with as many threads as there are cores, by turns in random order. TRL keeps its defaults; only where the machine
cannot multiply bf16 is that switched off, which is to its good. Tokens are those of the rows, padding left out, and the time
runs from the first step's beginning to the last one's end. What each round made is judged by one evaluator. Rows differ in
length and not in kind, answers are whole texts, and the rate is ten times TRL's own, as its documentation has it for LoRA:
at higher ones the loss after some ten steps is the luck of the order.

A job does the same within the room: leases, events, metrics, checkpoints. What it costs is measured within the job, as a
machine's speed drifts by more than that between two trainings of minutes: the time from `running` to the trainer's start and
from its end to the job's, and every second of a core that the rooms took while it ran, beyond what they take when nothing
happens. The latter counts as if the trainer had stood still. Nobody asks meanwhile, until the end.
Every job has its second or two at the end (weights are checked, published and loaded), so jobs here last minutes.

On a machine with a GPU both use it. `--base` trains another model, `--rows` takes more rows a round, which a fast machine
needs, and `--trainer-only` leaves the jobs out.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from rich.console import Console
from rich.progress import track

from benchmarks._asking import connect
from benchmarks._result import CORES, Row, beside, report, row, spread
from benchmarks._tuning import ENDS, EVERY_CORE, upload
from client.tuning import Tuning
from examples.generate import MOST_DOCUMENTS, generate
from services.chassis.models.folder import open_model, user_cache
from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan, TrainingSettings
from services.finetuning.domain.training_messages import Message, Metrics, Started, decode
from services.local.child import ChildStack, child_stack

ROUNDS: Final = 5
JOB_ROUNDS: Final = 3
# Rows of a round, and held out; of a job that is long enough for its start and its end not to be all.
ROWS, HELD_OUT, JOB_ROWS = 48, 48, 64
BATCH: Final = 4
RATE: Final = 2e-4
RANK: Final = 16
_TRAINER: Final = "services.finetuning.trainer"
# Seconds in which what the rooms take is seen when nothing happens.
_IDLE_S: Final = 30.0
_DEFAULTS: Final = "TRL's defaults"
_PLAIN: Final = "TRL without gradient checkpointing"
_ROOT: Final = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--base", default="packaged", help="the base model: a folder, or `packaged`")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each arm trains")
    parser.add_argument("--trainer-only", action="store_true", help="leave out what a job costs")
    asked = parser.parse_args()
    console = Console(stderr=True)
    base = asyncio.run(open_model(asked.base, cache=user_cache())).folder
    rows = _rows(asked.rows + HELD_OUT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(base, folder)
        trained, held_out = bench.file("rows.jsonl", rows[: asked.rows]), bench.file("held.jsonl", rows[asked.rows :])
        arms: dict[str, Callable[[int], tuple[float, Path]]] = {
            "ours": lambda number: bench.ours(trained, seed=number),
            _DEFAULTS: lambda number: bench.trl(trained, seed=number),
            _PLAIN: lambda number: bench.trl(trained, seed=number, checkpointing=False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        losses: dict[str, list[float]] = {"ours": [], _DEFAULTS: []}
        draw = random.Random(5)
        for number in track(range(asked.rounds), "rounds", console=console):
            for arm in draw.sample(sorted(arms), len(arms)):
                took, adapter = arms[arm](number)
                seconds[arm].append(took)
                said = f"round {number}: {arm} {took:.1f} s"
                if arm in losses:
                    losses[arm].append(bench.loss(adapter, held_out))
                    said += f", loss on held-out rows {losses[arm][-1]:.4f}"
                console.print(said)
        tokens = bench.tokens(rows[: asked.rows])
        jobs = [] if asked.trainer_only else _jobs(folder, _rows(JOB_ROWS), console)
    speeds = {arm: [tokens / one for one in taken] for arm, taken in seconds.items()}
    ours = speeds.pop("ours")
    found = [
        beside("training, real tokens/s", _pairs(ours, speeds[_DEFAULTS]), _DEFAULTS, (">=", 1.5)),
        beside("training, real tokens/s", _pairs(ours, speeds[_PLAIN]), _PLAIN),
        _equal_loss(losses["ours"], losses[_DEFAULTS]),
        *jobs,
        row("tokens of a round", tokens),
        row("threads", CORES),
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return 0 if _reported(found, gpu, base.name if asked.trainer_only else "") else 1


class Bench:
    """Runs the arms, each in a process of its own.

    Args:
        base: The base model's folder.
        folder: Where everything is written.
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = base
        self._folder = folder
        self._made = 0
        self.threads = {"OMP_NUM_THREADS": str(CORES)}

    def file(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write rows."""
        path = self._folder / name
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return path

    def tokens(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Return how many tokens rows have."""
        from transformers import AutoTokenizer  # noqa: PLC0415  seconds of import, only here

        tokenizer = AutoTokenizer.from_pretrained(self._base)
        texts = [tokenizer.apply_chat_template(one["messages"], tokenize=False) for one in rows]
        return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)

    def ours(self, rows: Path, *, seed: int) -> tuple[float, Path]:
        """Train with the trainer of a job; return the seconds of the steps and the adapter."""
        work = self._new()
        moments: list[float] = []

        def heard(message: Message) -> None:
            if isinstance(message, Started | Metrics):
                moments.append(time.perf_counter())

        self._child(self._plan(rows, work, seed), heard)
        return moments[-1] - moments[0], work / "adapter"

    def trl(self, rows: Path, *, seed: int, checkpointing: bool | None = None) -> tuple[float, Path]:
        """Train with the bare script; return the seconds of the steps and the adapter."""
        work = self._new()
        config: dict[str, Any] = {
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH,
            "learning_rate": RATE,
            "seed": seed,
        }
        if not (torch.cuda.is_available() or _multiplies_bf16()):
            config["bf16"] = False
        if checkpointing is not None:
            config["gradient_checkpointing"] = checkpointing
        order = {"base": str(self._base), "rows": str(rows), "out": str(work), "rank": RANK, "alpha": 2 * RANK}
        done = self._script("train", order | {"config": config})
        return float(done["seconds"]), work

    def loss(self, adapter: Path, rows: Path) -> float:
        """Return an adapter's loss on rows, by an evaluator that knows nothing of who made it."""
        return float(
            self._script("evaluate", {"base": str(self._base), "adapter": str(adapter), "rows": str(rows)})["loss"]
        )

    def _plan(self, rows: Path, work: Path, seed: int) -> TrainingPlan:
        settings = TrainingSettings(
            n_epochs=1,
            batch_size=BATCH,
            learning_rate=RATE,
            beta=0.1,
            lora=LoraShape(rank=RANK, alpha=2.0 * RANK),
            seed=seed,
            # Saving is no part of either arm's time.
            checkpoint_every=10_000,
        )
        return TrainingPlan(
            stage=Stage.SUPERVISED, base_folder=self._base, base_name="base", rows=rows, work=work, settings=settings
        )

    def _new(self) -> Path:
        self._made += 1
        work = self._folder / f"run-{self._made}"
        work.mkdir()
        return work

    def _child(self, plan: TrainingPlan, heard: Callable[[Message], None]) -> None:
        path = plan.work / "plan.json"
        path.write_text(plan.to_json())
        command = [sys.executable, "-m", _TRAINER, str(path)]
        with subprocess.Popen(
            command,
            cwd=_ROOT,
            env=os.environ | self.threads,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                heard(decode(line))
        if child.returncode:
            raise SystemExit(f"the trainer ended with {child.returncode}")

    def _script(self, verb: str, order: Mapping[str, Any]) -> dict[str, Any]:
        path = self._folder / "order.json"
        path.write_text(json.dumps(order))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._trl_script", verb, str(path)],
            cwd=_ROOT,
            env=os.environ | self.threads,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the TRL script failed:\n{done.stderr[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


def _jobs(folder: Path, rows: Sequence[Mapping[str, Any]], console: Console) -> list[Row]:
    """Return what jobs take beside their trainers' processes, and what the rooms take when nothing happens."""
    pairs, idles = [], []
    with (
        child_stack(folder / "stack", engine="scripted://?mode=extract", environment=EVERY_CORE) as stack,
        connect(stack, "tara", role="trainer") as gateway,
    ):
        tuning = Tuning(gateway)
        file = upload(gateway, rows, "rows.jsonl")
        brain = {"n_epochs": 1, "batch_size": BATCH, "lora": {"r": RANK}}
        for number in range(JOB_ROUNDS):
            idle = _cpu_seconds(stack)
            time.sleep(_IDLE_S)
            idles.append(idle := (_cpu_seconds(stack) - idle) / _IDLE_S)
            job = tuning.create({"model": "default", "training_file": file, "seed": number, "brain": brain})
            _until(tuning, job, {"running"})
            running = time.perf_counter()
            trainer = _trainer(stack, tuning, job)
            began, before = time.perf_counter(), _cpu_seconds(stack, trainer)
            _await_end(trainer)
            ended, busy = time.perf_counter(), _cpu_seconds(stack, trainer) - before
            _until(tuning, job, {"succeeded"})
            alone, outside = ended - began, began - running + time.perf_counter() - ended
            more = max(0.0, busy - idle * alone)
            console.print(
                f"job {number}: {alone:.1f} s of training, {outside:.1f} s beside it, {busy:.1f} s of a core by the rooms, "
                f"which take {idle:.3f} of one when nothing happens"
            )
            pairs.append((alone + outside + more, alone))
    return [
        beside("job, seconds", pairs, "its trainer's process", ("<=", 1.03)),
        row("rooms when nothing happens, share of a core", round(statistics.median(idles), 4)),
    ]


def _until(tuning: Tuning, job: Mapping[str, Any], states: set[str]) -> None:
    while (now := tuning.job(job["id"]))["status"] not in states:
        if now["status"] in ENDS:
            raise SystemExit(f"{job['id']}: {now['error']}")
        time.sleep(0.1)


def _trainer(stack: ChildStack, tuning: Tuning, job: Mapping[str, Any]) -> int:
    """Return the id of the process that a running job trains in, as soon as it is there."""
    while True:
        for one in psutil.Process(stack.pid("finetuning")).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if _TRAINER in one.cmdline():
                    return int(one.pid)
        if (now := tuning.job(job["id"]))["status"] in ENDS:
            raise SystemExit(f"{job['id']}: {now['error']}")
        time.sleep(0.05)


def _await_end(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        select.select([handle], [], [])
    finally:
        os.close(handle)


def _cpu_seconds(stack: ChildStack, trainer: int = 0) -> float:
    """Return the seconds of a core that the rooms have taken, without their trainer."""
    rooms = [psutil.Process(int(room["pid"])) for room in stack.state["rooms"].values()]
    found = 0.0
    for process in [*rooms, *itertools.chain.from_iterable(room.children(recursive=True) for room in rooms)]:
        # One that has just ended counts no more.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid != trainer:
                times = process.cpu_times()
                found += times.user + times.system
    return found


def _reported(found: Sequence[Row], gpu: str, base: str) -> bool:
    """Report; a result of the trainer alone stands beside the whole one, under the name of its base model."""
    return report(
        f"training-{base}" if base else "training",
        found,
        packages=["trl", "peft", "transformers", "torch"],
        more={"accelerator": gpu} if gpu else None,
        command="python -m benchmarks.training --trainer-only --base …" if base else "",
    )


def _equal_loss(ours: Sequence[float], theirs: Sequence[float]) -> Row:
    ratio = statistics.mean(ours) / statistics.mean(theirs)
    return Row(
        "loss on held-out rows, mean of the rounds",
        round(statistics.mean(ours), 4),
        peer=_DEFAULTS,
        peer_value=round(statistics.mean(theirs), 4),
        ratio=round(ratio, 4),
        spread=spread([one / other for one, other in _pairs(ours, theirs)]),
        target="within 1 %",
        holds=abs(ratio - 1) <= 0.01,
    )


def _pairs(ours: Sequence[float], theirs: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(ours, theirs, strict=True))


def _rows(count: int) -> list[dict[str, Any]]:
    """Return requests for one to four entries: rows differ in length as real ones do, and not in kind."""
    draw = random.Random(17)
    documents = itertools.cycle(generate(71, MOST_DOCUMENTS))
    rows = []
    for _ in range(count):
        entries = list(itertools.islice(documents, draw.choice([1, 1, 2, 4])))
        titles, texts = zip(*(one.text.removeprefix("# ").split("\n\n", 1) for one in entries), strict=True)
        asked = f"Write the entries on {', '.join(titles)}."
        answer = "\n\n".join(text.strip() for text in texts)
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
    return rows


def _multiplies_bf16() -> bool:
    return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


if __name__ == "__main__":
    sys.exit(main())
