"""Fit the weights that decide on abstention: `make bench ONLY=abstention`.

Questions over three collections of the data folder beside the checkout (never the example company, which is the test):
hand-written ones with the pattern of their answer, hand-written ones that name what the documents mention and ask what
they do not say, and the questions that came with the benefits documents. Each question with an answer is asked twice:
with what a hybrid search finds, and with every passage that holds the answer taken away (a near miss). Prints the
weights, and the refusals on questions that were left out of the fit.
"""

import asyncio
import hashlib
import json
import re
import sys
from dataclasses import astuple, replace
from pathlib import Path

import bm25s
import numpy as np
import pypdfium2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._abstention_questions import QUESTIONS  # noqa: E402
from services.chat.domain import support  # noqa: E402
from services.chat.domain.passages import cut  # noqa: E402
from services.chat.domain.turn import InlineDocument, Passage  # noqa: E402
from services.chat.domain.words import content  # noqa: E402
from services.retrieval.backends.maxsim_reranker import WeakestMaxSimReranker  # noqa: E402
from services.retrieval.backends.onnx_embedder import OnnxEmbedder  # noqa: E402
from services.retrieval.backends.onnx_worker import OnnxWorker  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
CACHE = Path.home() / ".cache" / "corporate-brain" / "calibration"
PASSAGES = 4
PLACES = 4
CANDIDATES = 10
FOLDS = 8


def documents() -> dict[str, list[InlineDocument]]:
    """Read the collections."""
    banking = [json.loads(path.read_text()) for path in sorted((DATA / "banking" / "documents").glob("*.json"))]
    found = {"banking": [InlineDocument(one["title"], one["title"], one["content"]) for one in banking]}
    found["handbook"] = [
        InlineDocument(
            str(path), path.stem.replace("-", " "), re.sub(r"\A---.*?---", "", path.read_text(), flags=re.DOTALL)
        )
        for path in sorted((DATA / "handbook" / "pages").rglob("*.md"))
    ]
    found["benefits"] = []
    for path in sorted((DATA / "benefits").glob("*.pdf")):
        pdf = pypdfium2.PdfDocument(path)
        for number, page in enumerate(pdf, start=1):
            text = page.get_textpage().get_text_bounded().replace("\r\n", "\n")
            found["benefits"].append(InlineDocument(f"{path.name}#page={number}", path.stem.replace("_", " "), text))
    overview = DATA / "benefits" / "Zava_Company_Overview.md"
    found["benefits"].append(InlineDocument(overview.name, "Zava Company Overview", overview.read_text()))
    return found


class Remembered:
    """Vectors, kept in the user's cache folder by text: a second run costs nothing.

    Args:
        embedder: Makes those that are not there yet.
    """

    def __init__(self, embedder: OnnxEmbedder) -> None:
        self._embedder = embedder
        self._file = CACHE / "vectors.npz"
        self._known: dict[str, np.ndarray] = dict(np.load(self._file)) if self._file.exists() else {}

    async def __call__(self, texts: list[str]) -> np.ndarray:
        """Return one row for each text."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            for key, text in missing.items():
                self._known[key] = (await self._embedder.embed([text], queries=True)).vectors[0]
        return np.stack([self._known[key] for key in keys])

    def keep(self) -> None:
        """Write what is known."""
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new.npz")
        np.savez(fresh, **self._known)  # type: ignore[arg-type]
        fresh.replace(self._file)


class Collection:
    """Passages with a hybrid search: the best by BM25 (and by cosine), ordered by both, half and half.

    Args:
        passages: All of them.
        embed: Makes vectors.
    """

    def __init__(self, passages: list[Passage], embed: Remembered) -> None:
        self.passages = passages
        self.embed = embed
        self.index = bm25s.BM25()
        self.index.index(
            [[token.stem for token in content(f"{one.title} {one.text}")] for one in passages], show_progress=False
        )

    async def search(self, question: str, vector: np.ndarray, without: str = "") -> list[Passage]:
        """Return the best passages that do not match `without`."""
        words = self.index.get_scores([token.stem for token in content(question)])
        best = [
            index for index in np.argsort(-words) if not (without and re.search(without, self.passages[index].text))
        ][:CANDIDATES]
        texts = [f"{self.passages[index].title}\n{self.passages[index].text}" for index in best]
        near = (await self.embed(texts)) @ vector
        fused = 0.5 * near / max(float(near.max()), 1e-9) + 0.5 * words[best] / max(float(words[best].max()), 1e-9)
        return [replace(self.passages[best[at]], score=float(fused[at])) for at in np.argsort(-fused)[:PASSAGES]]


async def judged(
    question: str, passages: list[Passage], vector: np.ndarray, embed: Remembered, met: WeakestMaxSimReranker
) -> tuple[float, ...]:
    """Return the features as the room computes them."""
    places = support.ranked(question, passages)[:PLACES]
    near = (await embed([place.text for _, place in places])) @ vector
    least = await met.score(question, [place.in_full for _, place in places])
    nearness = [float(value) for value in near]
    return astuple(support.features(question, passages, places=places, nearness=nearness, met=least))


# Questions with an answer weigh as much as those without; long questions and near misses count half: the first are
# easy, and of the second some hold the fact in another passage.
HALF = frozenset({"long question", "near miss"})


def fit(rows: np.ndarray, labels: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return logistic weights, none below 0 (every feature speaks for an answer), the bias last."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    wide = np.hstack([(rows - middle) / spread, np.ones((len(rows), 1))])
    share = np.where(np.isin(kinds, list(HALF)), 0.5, 1.0)
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


def report(kinds: list[str], scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the share refused by kind of question."""
    return {
        kind: round(
            float(np.mean([score < threshold for one, score in zip(kinds, scores, strict=True) if one == kind])), 3
        )
        for kind in sorted(set(kinds))
    }


async def main() -> None:
    """Fit, check on questions left out, print."""
    worker = OnnxWorker(max_waiting=10_000)
    await worker.start()
    embed, met = Remembered(OnnxEmbedder(worker)), WeakestMaxSimReranker(worker)
    collections = {
        name: Collection([piece for at, one in enumerate(given) for piece in cut(one, at)], embed)
        for name, given in documents().items()
    }
    truth = [json.loads(line) for line in (DATA / "benefits" / "ground_truth.jsonl").read_text().splitlines()]
    asked = [*QUESTIONS, *(("benefits", one["question"], ".") for one in truth[:16])]
    rows, labels, kinds, groups, names = [], [], [], [], []
    for group, (name, question, pattern) in enumerate(asked):
        vector = (await embed([question]))[0]
        found = await collections[name].search(question, vector)
        if pattern and not any(re.search(pattern, one.text) for one in found):
            continue
        kind = "unanswerable" if not pattern else "long question" if pattern == "." else "answerable"
        print(kind, question, file=sys.stderr, flush=True)
        cases = [(kind, found)]
        if kind == "answerable":
            near = await collections[name].search(question, vector, without=pattern)
            cases.append(("near miss", near))
        for label, passages in cases:
            rows.append(await judged(question, passages, vector, embed, met))
            labels.append(int(label in {"answerable", "long question"}))
            kinds.append(label)
            groups.append(group)
            names.append(f"{label}: {question}")
        embed.keep()
    await worker.stop()
    data, wanted, group_of = np.array(rows), np.array(labels), np.array(groups)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(CACHE / "rows.npz", data=data, labels=wanted, kinds=kinds, names=names)
    left_out = np.zeros(len(data))
    for fold in range(FOLDS):
        test = group_of % FOLDS == fold
        weights = fit(data[~test], wanted[~test], np.array(kinds)[~test])
        left_out[test] = 1 / (1 + np.exp(-(data[test] @ weights[:-1] + weights[-1])))
    for threshold in np.arange(0.2, 0.8, 0.05):
        print(round(float(threshold), 2), report(kinds, left_out, float(threshold)))
    weights = fit(data, wanted, np.array(kinds))
    for name, row, score in sorted(zip(names, rows, left_out, strict=True), key=lambda item: item[2]):
        print(f"{score:.2f}", name, [round(value, 2) for value in row], file=sys.stderr)
    print(
        json.dumps(
            {
                "name": "abstention",
                "weights": [round(float(w), 2) for w in weights[:-1]],
                "bias": round(float(weights[-1]), 2),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
