"""Facts that a model writes about chunks, and that are tried out before they are believed."""

import asyncio
from collections.abc import Sequence
from typing import Final

from services.finetuning.domain.asking import SCHEMA, WritingTexts, as_passage, writing_prompt, written_facts
from services.finetuning.domain.building import BuildSpec, Progress, Report, Tally
from services.finetuning.domain.documents import Chunk, chunks
from services.finetuning.domain.facts import Fact, fault_of, holds
from services.finetuning.domain.near_duplicates import normalised
from services.finetuning.domain.reading_rows import supports
from services.finetuning.ports.passages import Passages
from services.finetuning.ports.writing import Writer
from services.finetuning.usecases.sources import SourceSet
from services.layout.nearest import ranked
from services.layout.prompt import build
from services.layout.texts import LayoutTexts
from services.layout.turns import Message, Passage, Source

# Chunks that are written about at once: the engine batches them, and others still get their turn.
_AT_ONCE: Final = 8
_WRITTEN_TOKENS: Final = 768
_ANSWER_TOKENS: Final = 96
# Passages of other documents that are asked, when they hold at least this share of the question's words.
_ELSEWHERE: Final = 2
_SOUGHT: Final = 8
_SPEAKS_OF: Final = 0.75
# Chunks with fewer letters hold a heading and no fact.
_SHORTEST: Final = 40


class WriteFacts:
    """Has a model write facts.

    Args:
        writer: The model.
        passages: Where else an answer could stand.
        writing: What the model is asked.
        layout: How a grounded question is asked.
    """

    def __init__(self, *, writer: Writer, passages: Passages, writing: WritingTexts, layout: LayoutTexts) -> None:
        self._writer = writer
        self._passages = passages
        self._writing = writing
        self._layout = layout

    async def __call__(self, spec: BuildSpec, sources: SourceSet, tally: Tally, report: Report) -> list[Fact]:
        """Return facts that the gold chunk answers, that nobody knows without it, and that nothing else answers otherwise.

        Raises:
            NotFound: There is no such model.
            Unavailable: The engine or the index is away.
        """
        work = [chunk for text in sources.texts for chunk in chunks(text) if len(chunk.text) >= _SHORTEST]
        found: list[Fact] = []
        for at in range(0, len(work), _AT_ONCE):
            batch = work[at : at + _AT_ONCE]
            for facts in await asyncio.gather(*(self._of_chunk(chunk, spec, tally) for chunk in batch)):
                found += facts
            report(Progress("questions", min(at + _AT_ONCE, len(work)), len(work)))
        return found

    async def _of_chunk(self, chunk: Chunk, spec: BuildSpec, tally: Tally) -> list[Fact]:
        prompt = writing_prompt(self._writing, chunk, phrasings=spec.phrasings)
        answer = await self._writer.write(
            prompt, model=spec.writer_model, max_tokens=_WRITTEN_TOKENS, seed=spec.seed, json_schema=SCHEMA
        )
        written, refused = written_facts(answer, chunk)
        for reason, count in refused.items():
            tally.leave_out(reason, count)
        kept = []
        for fact in written:
            # What makes no row anyway is not tried out.
            reason = fault_of(fact) or await self._doubt(fact, chunk, spec)
            if reason:
                tally.leave_out(reason)
            else:
                kept.append(fact)
        return kept

    async def _doubt(self, fact: Fact, chunk: Chunk, spec: BuildSpec) -> str:
        """Return why a fact is not believed; empty when it is."""
        question = fact.phrasings[0]
        if not holds(await self._ask(question, [as_passage(chunk)], spec), fact.answer):
            return "not_answerable"
        if holds(await self._ask(question, [], spec), fact.answer):
            return "answerable_without_documents"
        found = await self._passages.search(question, collection_ids=spec.collection_ids, top_k=_SOUGHT)
        others = [passage for passage in found if not supports(passage, fact) and _speaks_of(question, passage)]
        for passage in others[:_ELSEWHERE]:
            said = await self._ask(question, [passage], spec)
            denied = normalised(said).startswith(normalised(self._layout.not_found))
            if said.strip() and not denied and not holds(said, fact.answer):
                return "answered_differently"
        return ""

    async def _ask(self, question: str, passages: Sequence[Passage], spec: BuildSpec) -> str:
        """Ask as chat does: with passages in the layout of grounded turns, without any as a plain turn."""
        messages: Sequence[Message] = [Message("user", question)]
        if passages:
            sources = [Source(number, passage) for number, passage in enumerate(passages, start=1)]
            messages = build(self._layout, instructions="", sources=sources, excerpts=(), history=(), question=question)
        return await self._writer.write(messages, model=spec.writer_model, max_tokens=_ANSWER_TOKENS, seed=spec.seed)


def _speaks_of(question: str, passage: Passage) -> bool:
    """Whether a place of a passage holds most words of a question: what does not cannot answer it otherwise."""
    places = ranked(question, [passage])
    return bool(places) and places[0][0] >= _SPEAKS_OF
