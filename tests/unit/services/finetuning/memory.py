"""The ports of the finetuning room in memory, with the behaviour of the rooms behind them."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from services.chassis.errors import NotFound
from services.finetuning.domain.documents import DocumentText, Section, SourceDocument, chunks
from services.finetuning.domain.judgements import Judgement, JudgementKind
from services.finetuning.ports.files import FINE_TUNE, StoredFile
from services.layout.nearest import ranked
from services.layout.turns import Locator, Message, Passage
from services.layout.words import content, sentences


@dataclass
class MemoryFiles:
    """Files by id."""

    kept: dict[str, tuple[StoredFile, bytes]] = field(default_factory=dict)

    def put(self, data: bytes, *, purpose: str = FINE_TUNE, filename: str = "rows.jsonl") -> str:
        """Keep a file and return its id."""
        file_id = f"file-{len(self.kept) + 1}"
        about = StoredFile(file_id, filename, purpose, len(data), hashlib.sha256(data).hexdigest())
        self.kept[file_id] = (about, data)
        return file_id

    async def about(self, file_id: str) -> StoredFile:
        if file_id not in self.kept:
            raise NotFound(f"No file {file_id!r}.", param="file_id")
        return self.kept[file_id][0]

    async def download(self, file_id: str) -> AsyncIterator[bytes]:
        await self.about(file_id)
        data = self.kept[file_id][1]
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async def upload(self, filename: str, pieces: Iterable[bytes], *, purpose: str = FINE_TUNE) -> StoredFile:
        return self.kept[self.put(b"".join(pieces), filename=filename)][0]

    async def delete(self, file_id: str) -> None:
        self.kept.pop(file_id, None)


def document(key: str, text: str, *, title: str = "", collection: str = "vs_1", version: int = 1) -> DocumentText:
    """Return a Markdown document with a section under each heading."""
    headings = [(match.start(), match[1]) for match in re.finditer(r"^#+ (.+)$", text, re.MULTILINE)]
    starts = [(0, "")] if not headings or headings[0][0] else []
    places = [*starts, *headings]
    ends = [*(start for start, _ in places[1:]), len(text)]
    sections = tuple(
        Section(start, end, Locator(heading_path=(heading,) if heading else ()))
        for (start, heading), end in zip(places, ends, strict=True)
    )
    source = SourceDocument(
        document_id="doc_" + re.sub(r"\W", "_", key),
        version=version,
        collection_id=collection,
        title=title or (headings[0][1] if headings else key),
        filename=key.rpartition("/")[2],
        key=key,
    )
    return DocumentText(source, text, sections)


@dataclass
class MemoryCompany:
    """Documents with access lists, and the index over them; `asking` is who asks."""

    texts: dict[str, DocumentText] = field(default_factory=dict)
    secret: set[str] = field(default_factory=set)
    # A document that is secret by now, and of which the index still returns passages.
    leaking: set[str] = field(default_factory=set)
    collections: set[str] = field(default_factory=lambda: {"vs_1"})
    searches: list[str] = field(default_factory=list)

    def add(self, *texts: DocumentText) -> None:
        for text in texts:
            self.texts[text.document.document_id] = text

    async def of_collection(self, collection_id: str) -> AsyncIterator[SourceDocument]:
        if collection_id not in self.collections:
            raise NotFound(f"No collection {collection_id!r}.", param="collection_id")
        for text in list(self.texts.values()):
            if text.document.collection_id == collection_id and text.document.document_id not in self.secret:
                yield text.document

    async def text(self, document: SourceDocument) -> DocumentText | None:
        kept = self.texts.get(document.document_id)
        if kept is None or kept.document.version != document.version or document.document_id in self.secret:
            return None
        return kept

    async def readable(self, document_ids: Collection[str]) -> frozenset[str]:
        return frozenset(one for one in document_ids if one in self.texts and one not in self.secret)

    async def search(self, query: str, *, collection_ids: Sequence[str], top_k: int) -> list[Passage]:
        """Rank the chunks of readable documents by the words that they share with the query, rare ones first."""
        self.searches.append(query)
        hidden = self.secret - self.leaking
        found = [
            passage
            for identity, text in self.texts.items()
            if identity not in hidden and text.document.collection_id in collection_ids
            for passage in _passages(text)
        ]
        stems = [Counter(token.stem for token in content(f"{one.title} {one.text}")) for one in found]
        frequency = Counter(stem for one in stems for stem in one)
        wanted = {token.stem for token in content(query)}
        scores = [
            sum(math.log(1 + len(found) / frequency[stem]) for stem in wanted & one.keys()) / (1 + 0.02 * one.total())
            for one in stems
        ]
        best = sorted(range(len(found)), key=lambda at: (-scores[at], found[at].document_id, found[at].start))
        most = max(scores, default=0.0) or 1.0
        return [replace(found[at], score=scores[at] / most) for at in best[:top_k] if scores[at] > 0]

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        wanted = {token.stem for token in content(question)}
        return [len(wanted & {token.stem for token in content(text)}) / max(1, len(wanted)) for text in texts]


def _passages(text: DocumentText) -> list[Passage]:
    source = text.document
    return [
        Passage(
            document_id=source.document_id,
            version=source.version,
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            title=source.title,
            filename=source.filename,
            collection_id=source.collection_id,
            locator=Locator(heading_path=chunk.headings),
        )
        for chunk in chunks(text)
    ]


@dataclass
class MemoryJudgements:
    """Judgements in the order in which they were given."""

    kept: list[Judgement] = field(default_factory=list)

    async def given(
        self, *, collection_ids: Collection[str], kinds: Collection[JudgementKind]
    ) -> AsyncIterator[Judgement]:
        for judgement in self.kept:
            if judgement.kind in kinds and (not collection_ids or set(collection_ids) & set(judgement.collection_ids)):
                yield judgement


_DOCUMENT = re.compile(r'<document number="\d+" title="(?P<title>[^"]*)">\n(?P<text>.*?)\n</document>', re.DOTALL)


@dataclass
class ExtractiveModel:
    """A model that copies: it answers with the sentence nearest to the question, and asks for the last word of sentences.

    `knows` is what it says without documents; `writes` replaces what it writes about a text that holds a key.
    """

    knows: dict[str, str] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)
    calls: list[Sequence[Message]] = field(default_factory=list)

    async def write(
        self, messages: Sequence[Message], *, model: str, max_tokens: int, seed: int, json_schema: str = ""
    ) -> str:
        if model == "gone":
            raise NotFound(f"No model {model!r}.", param="model")
        self.calls.append(messages)
        asked = messages[-1].content
        found = [match.groupdict() for match in _DOCUMENT.finditer(asked)]
        if json_schema:
            return next((said for key, said in self.writes.items() if key in asked), "") or self._facts(found)
        if not found:
            return self.knows.get(asked, "I do not know.")
        question = asked.rpartition("Question: ")[2]
        passages = [Passage(str(at), 1, 0, len(one["text"]), one["text"], one["title"]) for at, one in enumerate(found)]
        share, place = ranked(question, passages)[0]
        if share < 0.5:
            return "Not in the documents."
        wanted = {token.stem for token in content(question)}
        return max(
            (piece.text for piece in sentences(place.text)),
            key=lambda text: len(wanted & {token.stem for token in content(text)}),
        )

    @staticmethod
    def _facts(found: list[dict[str, str]]) -> str:
        facts = [
            {
                "questions": [f"{one['title']}: {piece.text.rsplit(' ', 1)[0]} what?"],
                "answer": piece.text.rsplit(" ", 1)[1].rstrip("."),
                "evidence": piece.text,
            }
            for one in found
            for piece in sentences(one["text"])
            if " " in piece.text and not piece.text.startswith("#")
        ]
        return "Here they are: " + json.dumps({"facts": facts})
