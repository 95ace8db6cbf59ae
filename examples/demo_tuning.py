"""The tour that `make demo-tuning` takes: from documents to an adapter that is served, and what a deletion does to it.

It starts the whole stack in a fresh folder, builds reading rows (RAFT) from the example documents, checks and estimates,
trains on this machine while the loss is shown, asks the same questions of base and adapter, moves an alias, and deletes a
document. It exits with 1 when a step did not show what it promises.
"""

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from client.errors import GatewayError
from client.gateway import Gateway
from client.rendering import Answer
from client.settings import Connection
from client.tuning import Tuning
from client.tuning_rendering import Watch, facts, finish, show_report
from examples.demo import Tour, ingest, summary
from services.local.child import ChildStack, child_stack

STATE: Final = Path(__file__).resolve().parent.parent / ".brain" / "demo-tuning"
# Enough for the loss to fall, few enough for a laptop: about five minutes on two cores.
ROWS: Final = 48
SEED: Final = 7
# Asked of both, with what a right answer holds.
QUESTIONS: Final = (
    ("Who leads project Osprey?", "Costin"),
    ("How long is fully paid leave for a new mother or father?", "22 weeks"),
    ("How long does probation last for new people?", "five months"),
)
_FINAL: Final = {"succeeded", "failed", "cancelled"}


def build(tour: Tour, tuning: Tuning, collection: str) -> dict[str, Any]:
    """Build reading rows from the collection; return the dataset."""
    dataset = tuning.build(
        {"name": "reading", "kind": "raft", "collections": [collection], "max_rows": ROWS, "seed": SEED}
    )
    with tour.console.status("looking for facts, passages around them, and answers in the documents' own words …"):
        while dataset["status"] == "building":
            time.sleep(0.5)
            dataset = tuning.dataset(dataset["id"])
    tour.expect(dataset["status"] == "ready", f"the dataset is built ({dataset['error']})")
    numbers = {
        "rows to train on": dataset["rows"],
        "rows held out": dataset["held_out_rows"],
        "documents": dataset["documents"],
        **{name.replace("_", " "): count for name, count in (dataset["report"] or {}).get("numbers", {}).items()},
    }
    facts(tour.console, "Reading rows", numbers)
    tour.expect(dataset["rows"] >= ROWS // 2, "there are enough rows")
    return dataset


def train(tour: Tour, tuning: Tuning, body: dict[str, Any]) -> dict[str, Any]:
    """Train with live loss; return the job."""
    job = tuning.create(body)
    watch = Watch(tour.console)
    with watch.bar:
        while job["status"] not in _FINAL:
            watch.see(job)
            time.sleep(1)
            job = tuning.job(job["id"])
        watch.see(job)
    finish(tour.console, job)
    tour.expect(job["status"] == "succeeded", f"the job succeeds ({job['error']})")
    losses = [event["data"] for event in reversed(tuning.events(job["id"], most=100)) if event["type"] == "metrics"]
    held_out = [row["valid_loss"] for row in losses if "valid_loss" in row]
    if len(held_out) > 1:
        tour.console.print(f"loss on rows that were held out: {held_out[0]:.3f} → {held_out[-1]:.3f}")
        tour.expect(held_out[-1] < held_out[0], "the loss on held-out rows falls")
    return job


def served(tour: Tour, gateway: Gateway, name: str) -> None:
    """Wait until the engine serves an adapter, and say how long that took."""
    began = time.perf_counter()
    with tour.console.status("waiting for the engine to load the adapter …"):
        while time.perf_counter() - began < 60 and name not in gateway.models():
            time.sleep(0.1)
    tour.expect(name in gateway.models(), "the adapter is served without a restart")
    tour.console.print(f"{name} is served ({time.perf_counter() - began:.1f} s after the job's end)")


def side_by_side(tour: Tour, gateway: Gateway, collection: str, models: Iterable[str]) -> None:
    """Ask each model the same questions and show the answers beside each other."""
    names = list(models)
    table = Table("question", *names, title="The same questions", show_lines=True)
    right = 0
    for question, holds in QUESTIONS:
        answers = [ask(gateway, collection, question, model) for model in names]
        table.add_row(question, *(Text(answer.text or "–") for answer in answers))
        tour.expect(all(answer.text for answer in answers), f"everybody answers {question!r}")
        right += holds in answers[-1].text
    tour.console.print(table)
    tour.expect(right >= len(QUESTIONS) - 1, "the adapter answers all questions but one at most")


def ask(gateway: Gateway, collection: str, question: str, model: str) -> Answer:
    """Ask one model one question, grounded in the documents."""
    answer = Answer()
    for chunk in gateway.ask([{"role": "user", "content": question}], collections=[collection], model=model):
        answer.take(chunk)
    return answer


def delete_and_block(tour: Tour, gateway: Gateway, tuning: Tuning, collection: str, name: str) -> None:
    """Delete a document that the adapter learned from, and see it refused from the next request on."""
    learned = [one["id"] for one in tuning.adapter(name)["sources"] if one["kind"] == "document"]
    tour.expect(learned, "the adapter says what it learned from")
    document = gateway.document(learned[0])
    tour.console.print(f"{name} learned from {len(learned)} documents; deleting {document['filename']}")
    deletion = gateway.delete(document["id"])
    tour.console.print(f"blocked with it: {', '.join(deletion.get('adapters', [])) or 'nothing'}")
    tour.expect(name in deletion.get("adapters", []), "the deletion names the adapter that it blocks")
    refused = ""
    try:
        ask(gateway, collection, QUESTIONS[0][0], name)
    except (GatewayError, httpx.HTTPError) as error:
        refused = str(error)
    tour.console.print(Text.assemble(("the next request is refused: ", "bold"), refused or "no"))
    tour.expect(refused, "the next request to the adapter is refused")
    shown = tuning.adapter(name)
    tour.console.print(f"state {shown['state']}: {shown['reason']}")
    tour.expect(shown["state"] == "blocked", "the registry shows the adapter as blocked")
    again = tuning.retrain(name)
    tour.console.print(
        f"`brain adapters retrain` would train it again without {again['rows_left_out']} rows: {', '.join(again['jobs'])}"
    )
    tour.expect(again["rows_left_out"] > 0, "the rows of the deleted document are left out")
    for job in again["jobs"]:
        tuning.move(job, "cancel")


def walk(tour: Tour, stack: ChildStack) -> None:
    """Go through the steps."""
    with tour.step("Ingest the documents of a fictional company"):
        trainer = Gateway(Connection(stack.base_url, stack.key("tara", role="administrator")))
        collection = ingest(tour, trainer)
    tuning = Tuning(trainer)
    with trainer:
        with tour.step("Build reading rows: question, passages, answer with the documents' own words"):
            dataset = build(tour, tuning, collection)
        if not dataset["training_file"]:
            return
        body = {
            "model": "default",
            "training_file": dataset["training_file"],
            "validation_file": dataset["held_out_file"],
            "suffix": "reading",
            "seed": SEED,
            "brain": {"stage": "raft", "n_epochs": 1, "batch_size": 4},
        }
        with tour.step("Check and estimate before a second of training is spent"):
            checked = tuning.check(body)
            show_report(tour.console, checked["report"])
            tour.expect(checked["trainable"], "the rows can be trained on")
            tour.expect((checked["report"].get("estimate") or {}).get("estimated_s"), "the time is estimated")
        with tour.step("Train on this machine"):
            job = train(tour, tuning, body)
        name = job["fine_tuned_model"]
        if not name:
            return
        with tour.step("Served beside the base model, without a restart"):
            served(tour, trainer, name)
            base = next(iter(trainer.models()))
            side_by_side(tour, trainer, collection, (base, name))
        with tour.step("An alias that applications ask, moved with a gate"):
            promotion = tuning.promote({"alias": "support", "candidate": name})
            tour.console.print(f"{promotion['state']}: {promotion['history'][-1]['reason']}")
            answer = ask(trainer, collection, QUESTIONS[0][0], "support")
            tour.expect(promotion["state"] == "promoted" and answer.text, "the alias leads to the adapter")
        with tour.step("A document goes, and what learned from it is refused"):
            delete_and_block(tour, trainer, tuning, collection, name)


def main() -> int:
    """Take the tour; return the exit status."""
    tour = Tour()
    began = time.perf_counter()
    shutil.rmtree(STATE, ignore_errors=True)
    waiting = tour.console.status("starting the rooms; the engine takes about a minute …")
    waiting.start()
    with child_stack(STATE) as stack:
        waiting.stop()
        tour.timings.append(("Start the rooms", time.perf_counter() - began))
        tour.console.print(Rule())
        walk(tour, stack)
    return summary(tour, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
