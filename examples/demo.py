"""The tour that `make demo` takes: every step shows something and checks that it was shown.

It starts the whole stack in a fresh folder, goes through it as a user would, prints how long each step took, and stops
what it started. It exits with 1 when a step did not show what it promises.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from client.commands import progress, wait_until_final
from client.gateway import Gateway
from client.rendering import Answer, show_deletion, show_receipt, stream_answer
from client.settings import Connection
from client.syncing import carry_out, failures, plan_sync
from services.local.child import ChildStack, child_stack

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
STATE = ROOT / ".brain" / "demo"


class Tour:
    """What the steps share: the console, the clock, and what went wrong."""

    def __init__(self) -> None:
        self.console = Console()
        self.timings: list[tuple[str, float]] = []
        self.wrong: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show a step under its title and time it."""
        self.console.print()
        self.console.print(Rule(Text(title, style="bold"), align="left"))
        began = time.perf_counter()
        yield
        self.timings.append((title, time.perf_counter() - began))

    def expect(self, true: object, promise: str) -> None:
        """Note a promise that was not kept."""
        if not true:
            self.wrong.append(promise)
            self.console.print(f"[red]expected:[/] {promise}")

    def ask(
        self, gateway: Gateway, collection: str, question: str, history: list[dict[str, str]] | None = None
    ) -> Answer:
        """Ask and show the answer as it streams."""
        self.console.print(Text(f"? {question}", style="bold cyan"))
        messages = [*(history or []), {"role": "user", "content": question}]
        return stream_answer(self.console, gateway.ask(messages, collections=[collection]))


def ingest(tour: Tour, gateway: Gateway) -> str:
    """Upload the example documents with their access lists; return the collection."""
    rules = json.loads((EXAMPLES / "collection.json").read_text())
    collection = gateway.collection(rules["name"], create=True)

    def rule(name: str) -> dict[str, Any]:
        return next(dict(one) for one in rules["rules"] if name.startswith(one["prefix"]))

    folder = EXAMPLES / "documents"
    plan = plan_sync(folder, gateway.manifest(collection))
    with progress(tour.console) as bar:
        task = bar.add_task("uploading", total=len(plan.uploads))
        carry_out(
            gateway,
            collection,
            folder,
            plan,
            keep_vanished=False,
            access_of=lambda name: rule(name)["access"],
            attributes_of=lambda name: rule(name)["attributes"],
            on_step=lambda _name: bar.advance(task),
        )
    manifest = wait_until_final(gateway, collection, tour.console)
    failed = failures(manifest)
    tour.expect(not failed, f"every document is indexed ({failed})")
    tour.console.print(f"{len(manifest) - len(failed)} documents are searchable")
    return collection


def update_and_delete(tour: Tour, gateway: Gateway, collection: str) -> None:
    """Change a document, then delete it, and see the answers follow."""
    question = "Where do visitors of the tower leave their bags?"
    page = STATE / "tower.md"
    for place in ("in the blue locker at the gate", "in the yellow cabinet by the stairs"):
        page.write_text(f"# Tower visits\n\nVisitors of the tower leave their bags {place}.\n")
        document, _ = gateway.upload(collection, page, key="tower.md", access=["group:everyone"])
        wait_until_final(gateway, collection, tour.console)
        tour.console.print(f"version {document['version']} of tower.md is searchable")
        answer = tour.ask(gateway, collection, question)
        tour.expect(place.split()[-1] in answer.text, f"the answer follows version {document['version']}")
    deletion = gateway.delete(document["id"])
    while deletion["state"] != "deleted":
        time.sleep(0.1)
        deletion = gateway.deletion(document["id"])
    show_deletion(tour.console, deletion)
    tour.expect(all(store["remaining"] == 0 for store in deletion["stores"]), "every store is counted to zero")
    answer = tour.ask(gateway, collection, question)
    tour.expect("stairs" not in answer.text and not answer.citations, "a deleted document is not answered from")


def walk(tour: Tour, stack: ChildStack) -> None:
    """Go through the steps."""
    with tour.step("Ingest 26 documents of a fictional company"):
        curator = Gateway(Connection(stack.base_url, stack.key("clara", role="curator", groups=("hr", "board"))))
        employee = Gateway(Connection(stack.base_url, stack.key("emil", role="viewer")))
        collection = ingest(tour, curator)
    with curator, employee:
        with tour.step("A question, answered with citations"):
            question = "Who leads project Osprey?"
            answer = tour.ask(employee, collection, question)
            tour.expect(answer.citations, "the answer cites its source")
            tour.expect("Costin" in answer.text, "the answer is right")
        with tour.step("A follow-up that makes sense with the history only"):
            history = [{"role": "user", "content": question}, {"role": "assistant", "content": answer.text}]
            follow_up = tour.ask(employee, collection, "And who is her deputy?", history)
            tour.expect("Ekdal" in follow_up.text, "the follow-up is understood")
        with tour.step("A question that the documents do not answer"):
            missing = tour.ask(employee, collection, "Who is the mayor of Graz?")
            tour.expect(not missing.citations and missing.abstained, "it says that the documents do not answer")
        with tour.step("One question, two readers: with and without permission"):
            board_question = "Which company does the board intend to buy?"
            allowed = tour.ask(curator, collection, board_question)
            tour.expect("Quillwater" in allowed.text, "a member of the group is told")
            denied = tour.ask(employee, collection, board_question)
            tour.expect("Quillwater" not in denied.text and not denied.citations, "nobody else is")
        with tour.step("A document updated and deleted"):
            update_and_delete(tour, curator, collection)
        with tour.step("The receipt of the first answer"):
            tour.expect(answer.receipt_id, "the answer has a receipt")
            if answer.receipt_id:
                show_receipt(tour.console, employee.receipt(answer.receipt_id))
        with tour.step("Why didn't you find it?"):
            why = employee.explain({"document": "canteen.html", "question": question, "collections": [collection]})
            tour.console.print(Text.assemble((f"{why['verdict']}: ", "bold"), str(why["explanation"])))
            tour.expect(why["verdict"], "there is a verdict")


def main() -> int:
    """Take the tour; return the exit status."""
    tour = Tour()
    began = time.perf_counter()
    shutil.rmtree(STATE, ignore_errors=True)
    waiting = tour.console.status("starting the rooms; the model is made once, the engine takes about a minute …")
    waiting.start()
    with child_stack(STATE) as stack:
        waiting.stop()
        tour.timings.append(("Start the rooms", time.perf_counter() - began))
        walk(tour, stack)
    return summary(tour, time.perf_counter() - began)


def summary(tour: Tour, seconds_in_all: float) -> int:
    """Show how long every step took and what was not kept; return the exit status."""
    table = Table("step", "seconds", title="Timings")
    for title, seconds in [*tour.timings, ("Everything", seconds_in_all)]:
        table.add_row(title, f"{seconds:.1f}")
    tour.console.print()
    tour.console.print(table)
    if tour.wrong:
        tour.console.print(f"[red]{len(tour.wrong)} promises were not kept:[/] {'; '.join(tour.wrong)}")
        return 1
    tour.console.print("Everything was as promised. `make run` keeps a stack up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
