"""Reading rows of a build: passages by the real index, the prompt as chat lays it out, the answer in the document's words."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.finetuning.domain.building import BuildSpec, DatasetKind, Progress, Report, Tally
from services.finetuning.domain.facts import Fact
from services.finetuning.domain.reading_rows import (
    Task,
    answer_of,
    covers,
    is_answered,
    is_quoted,
    passages_for,
    planned,
    reading_prompt,
    reading_row,
)
from services.finetuning.domain.rows import Row
from services.finetuning.ports.passages import Passages
from services.finetuning.ports.tokens import Tokens
from services.finetuning.usecases.sources import SourceSet
from services.layout.fitting import Draft, FittedPrompt
from services.layout.nearest import NEAREST, Neighbourhood, nearest, ranked
from services.layout.texts import LayoutTexts
from services.layout.turns import Passage

# Passages sought beyond those that are shown: what holds the fact, or is held out, goes out of some of them.
_MORE: Final = 10
# Questions that are searched for at once.
_AT_ONCE: Final = 8


@dataclass(slots=True)
class _Quotas:
    """How many rows of each kind are wanted on each side: (held out, answerable)."""

    most: dict[tuple[bool, bool], int]
    have: dict[tuple[bool, bool], int] = field(default_factory=dict)

    def open(self, task: Task) -> bool:
        """Whether another row like this is wanted."""
        key = (task.held_out, task.answerable)
        return key not in self.most or self.have.get(key, 0) < self.most[key]

    def took(self, task: Task) -> None:
        """Count a row."""
        key = (task.held_out, task.answerable)
        self.have[key] = self.have.get(key, 0) + 1

    @property
    def full(self) -> bool:
        """Whether nothing more is wanted."""
        return bool(self.most) and all(self.have.get(key, 0) >= most for key, most in self.most.items())


@dataclass(frozen=True, slots=True)
class Made:
    """A row with the task that it was made for."""

    task: Task
    row: Row


class MakeReadingRows:
    """Makes reading rows.

    Args:
        passages: The index.
        tokens: Of the model that is tuned.
        layout: How a grounded turn is laid out.
        served_passages: Passages that chat seeks for a turn.
        window: Tokens that prompt and answer have together when they are served.
    """

    def __init__(
        self, *, passages: Passages, tokens: Tokens, layout: LayoutTexts, served_passages: int, window: int
    ) -> None:
        self._passages = passages
        self._tokens = tokens
        self._layout = layout
        self._served_passages = served_passages
        self._window = window

    async def __call__(
        self, spec: BuildSpec, sources: SourceSet, facts: Sequence[Fact], tally: Tally, report: Report
    ) -> list[Made]:
        """Return the rows, those to train on and those held out, in the shares that are wanted.

        Raises:
            Unavailable: The index is away.
        """
        placed = [
            (fact, sources.clusters[document], document in sources.held_out)
            for fact in facts
            if (document := fact.evidence.document_id) in sources.clusters
        ]
        tasks = planned(placed, gold_share=spec.gold_share, seed=spec.seed)
        quotas = _quotas(spec, any_held_out=any(task.held_out for task in tasks))
        made: list[Made] = []
        for at in range(0, len(tasks), _AT_ONCE):
            wanted = [task for task in tasks[at : at + _AT_ONCE] if quotas.open(task)]
            for task, row in zip(
                wanted, await asyncio.gather(*(self._row(task, spec, sources) for task in wanted)), strict=True
            ):
                if isinstance(row, str):
                    tally.leave_out(row)
                elif quotas.open(task):
                    quotas.took(task)
                    made.append(Made(task, row))
            report(Progress("passages", min(at + _AT_ONCE, len(tasks)), len(tasks)))
            if quotas.full:
                break
        return _in_shares(made, spec.gold_share, tally)

    async def _row(self, task: Task, spec: BuildSpec, sources: SourceSet) -> Row | str:
        """Return the row of a task, or why there is none."""
        count = spec.passages_per_row or self._served_passages
        found = await self._search(task.question, spec, sources, count + _MORE)
        gold = None
        if task.answerable:
            gold = await self._gold(task, found, spec, sources)
            if gold is None:
                return "gold_not_found"
            if not is_quoted(answer_of(task.fact), task.fact):
                return "answer_not_quoted"
        hidden = frozenset[str]() if task.held_out else sources.held_out
        passages = await asyncio.to_thread(passages_for, task, found, gold, count=count, hidden=hidden)
        if not passages:
            return "no_distractors"
        fitted = await self._fitted(task.question, passages)
        if fitted is None or not is_answered(fitted, task):
            return "gold_cut" if task.answerable else "answered_by_distractor"
        make = reading_prompt if spec.kind is DatasetKind.PROMPTS else reading_row
        return make(task, fitted, not_found=self._layout.not_found)

    async def _search(self, query: str, spec: BuildSpec, sources: SourceSet, top_k: int) -> list[Passage]:
        """Return what the index finds, of documents that were listed as readable in the version that was read."""
        found = await self._passages.search(query, collection_ids=spec.collection_ids, top_k=top_k)
        return [
            passage
            for passage in found
            if passage.document_id in sources.listed and sources.listed[passage.document_id].version == passage.version
        ]

    async def _gold(self, task: Task, found: Sequence[Passage], spec: BuildSpec, sources: SourceSet) -> Passage | None:
        """Return the passage that covers the evidence; one that the question does not find is sought by its own words."""
        evidence = task.fact.evidence
        here = next((passage for passage in found if covers(passage, evidence)), None)
        if here is None:
            again = await self._search(evidence.quote, spec, sources, self._served_passages + _MORE)
            here = next((passage for passage in again if covers(passage, evidence)), None)
        return here

    async def _fitted(self, question: str, passages: Sequence[Passage]) -> FittedPrompt | None:
        """Return the prompt as chat would lay it out: the nearest stretch by the index, fitted to the window."""
        places = [place for _, place in (await asyncio.to_thread(ranked, question, passages))[:NEAREST]]
        excerpts: tuple[Neighbourhood, ...] = ()
        if places:
            met = await self._passages.least_met(question, [place.in_full for place in places])
            excerpts = (nearest(places, met),)
        draft = Draft(self._layout, "", tuple(passages), excerpts, (), question)
        counted, bare = await asyncio.to_thread(self._counted, draft)
        return draft.fitted(counted, bare=bare, window=self._window, max_tokens=0)

    def _counted(self, draft: Draft) -> tuple[list[int], int]:
        return self._tokens.count(draft.pieces), self._tokens.count_conversation(draft.bare)


def _quotas(spec: BuildSpec, *, any_held_out: bool) -> _Quotas:
    """Return the most rows of each kind; none when there is no limit."""
    if not spec.max_rows:
        return _Quotas({})
    held = round(spec.max_rows * spec.held_out_share) if any_held_out else 0
    most: dict[tuple[bool, bool], int] = {}
    for held_out, rows in ((True, held), (False, spec.max_rows - held)):
        gold = round(rows * spec.gold_share)
        most |= {(held_out, True): gold, (held_out, False): rows - gold}
    return _Quotas(most)


def _in_shares(made: Sequence[Made], gold_share: float, tally: Tally) -> list[Made]:
    """Return the rows without the last ones of the kind that is too many on its side: some could not be made."""
    kept: list[Made] = []
    for side in (False, True):
        here = [one for one in made if one.task.held_out is side]
        counts = {kind: sum(one.task.answerable is kind for one in here) for kind in (True, False)}
        shares = {True: gold_share, False: 1 - gold_share}
        # As many rows in all as the scarcer kind allows at its share.
        whole = min((counts[kind] / shares[kind] for kind in shares if shares[kind] > 0), default=0.0)
        allowed = {kind: min(counts[kind], round(whole * shares[kind])) for kind in shares}
        for one in here:
            if allowed[one.task.answerable] > 0:
                allowed[one.task.answerable] -= 1
                kept.append(one)
            else:
                tally.leave_out("over_share")
    return kept
