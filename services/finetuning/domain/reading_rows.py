"""Reading rows (RAFT, arXiv:2403.10131): a question, the gold passage among distractors, an answer in the document's words.

The passages are those that the index finds for the question, so that the distractors are the ones that serving will show.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.finetuning.domain.facts import Evidence, Fact, holds, sentence_with
from services.finetuning.domain.near_duplicates import normalised
from services.finetuning.domain.rows import ASSISTANT, ChatRow, DocumentSource, Origin, PromptRow, Turn
from services.layout.fitting import FittedPrompt
from services.layout.passages import best_first, without_repeats
from services.layout.turns import Passage


@dataclass(frozen=True, slots=True)
class Task:
    """A reading row to be made.

    Attributes:
        fact: What is asked for.
        phrasing: Which of its phrasings asks.
        answerable: Whether the gold passage is among the passages.
        cluster: Cluster of its document.
        held_out: Whether it grades instead of training.
    """

    fact: Fact
    phrasing: int
    answerable: bool
    cluster: str
    held_out: bool

    @property
    def question(self) -> str:
        """The question."""
        return self.fact.phrasings[self.phrasing]


def planned(facts: Sequence[tuple[Fact, str, bool]], *, gold_share: float, seed: int) -> tuple[Task, ...]:
    """Return the rows to be made: every fact once before any fact is asked for again in other words.

    The share of answerable rows is kept on each side of the split, to the nearest row; which ones they are is drawn.

    Args:
        facts: Facts with their cluster and whether they are held out.
        gold_share: Share of rows that hold the gold passage.
        seed: Of the draw.
    """
    drawn = random.Random(seed)  # noqa: S311  what is asked in which order is no secret
    order = list(range(len(facts)))
    drawn.shuffle(order)
    longest = max((len(fact.phrasings) for fact, _, _ in facts), default=0)
    chosen = [(at, phrasing) for phrasing in range(longest) for at in order if phrasing < len(facts[at][0].phrasings)]
    marks: dict[int, bool] = {}
    for side in (True, False):
        places = [place for place, (at, _) in enumerate(chosen) if facts[at][2] is side]
        gold = round(gold_share * len(places))
        dealt = [True] * gold + [False] * (len(places) - gold)
        drawn.shuffle(dealt)
        marks |= dict(zip(places, dealt, strict=True))
    return tuple(
        Task(facts[at][0], phrasing, marks[place], facts[at][1], facts[at][2])
        for place, (at, phrasing) in enumerate(chosen)
    )


def supports(passage: Passage, fact: Fact) -> bool:
    """Whether a passage holds a fact: it covers the evidence, says the same words, or holds the answer in its document."""
    evidence = fact.evidence
    same = (passage.document_id, passage.version) == (evidence.document_id, evidence.version)
    if same and holds(passage.text, fact.answer):
        return True
    return covers(passage, evidence) or normalised(evidence.quote) in normalised(passage.text)


def covers(passage: Passage, evidence: Evidence) -> bool:
    """Whether a passage holds the very words of the evidence at their place."""
    return (
        (passage.document_id, passage.version) == (evidence.document_id, evidence.version)
        and passage.start <= evidence.start
        and evidence.end <= passage.end
    )


def passages_for(
    task: Task, found: Sequence[Passage], gold: Passage | None, *, count: int, hidden: Collection[str]
) -> tuple[Passage, ...]:
    """Return the passages of a row, best first; none when the row cannot be made.

    Args:
        task: The row.
        found: What the index finds for the question, more than are shown.
        gold: The passage that covers the evidence, however it was found; None when there is none.
        count: Passages to show.
        hidden: Documents that must not be shown, those that are held out.
    """
    shown = without_repeats(best_first(passage for passage in found if passage.document_id not in hidden))
    if not task.answerable:
        return tuple(passage for passage in shown if not supports(passage, task.fact))[:count]
    if gold is None:
        return ()
    kept = shown[:count]
    if any(covers(passage, task.fact.evidence) for passage in kept):
        return kept
    return (*kept[: count - 1], gold)


def is_answered(fitted: FittedPrompt, task: Task) -> bool:
    """Whether the prompt holds what the row says of it: the whole of the evidence, or nothing of the fact."""
    passages = [source.passage for source in fitted.sources]
    if not task.answerable:
        return bool(passages) and not any(supports(passage, task.fact) for passage in passages)
    return any(task.fact.evidence.quote in passage.text for passage in passages)


def answer_of(fact: Fact) -> str:
    """Return the answer in the words of the document: the sentence that holds it, which citations then find again."""
    said = fact.quoted or sentence_with(fact.evidence.quote, fact.answer)
    return " ".join(said.split())


def is_quoted(answer: str, fact: Fact) -> bool:
    """Whether an answer is taken from the evidence word for word; the statement of a table's row holds the cell."""
    if fact.origin == "table":
        return holds(answer, fact.answer)
    return answer in " ".join(fact.evidence.quote.split())


def reading_row(task: Task, fitted: FittedPrompt, *, not_found: str) -> ChatRow:
    """Return the row: the prompt as it is served, and the answer.

    Args:
        task: The row.
        fitted: Its prompt.
        not_found: What is said when the documents do not hold the answer.
    """
    answer = answer_of(task.fact) if task.answerable else not_found
    # The answer of the worked example stands in every row; it is read, not learnt.
    prompt = [Turn(one.role, one.content, 0 if one.role == ASSISTANT else None) for one in fitted.messages]
    return ChatRow((*prompt, Turn(ASSISTANT, answer)), origin=_origin(task, fitted))


def reading_prompt(task: Task, fitted: FittedPrompt, *, not_found: str) -> PromptRow:
    """Return the prompt alone, with the answer as the reference that graders compare with."""
    prompt = tuple(Turn(message.role, message.content) for message in fitted.messages)
    reference = task.fact.answer if task.answerable else not_found
    return PromptRow(prompt, origin=_origin(task, fitted), extra={"reference": reference})


def _origin(task: Task, fitted: FittedPrompt) -> Origin:
    evidence = task.fact.evidence
    shown = [DocumentSource(source.passage.document_id, source.passage.version) for source in fitted.sources]
    # The question itself tells of its document, also where the passage is missing.
    sources = dict.fromkeys([DocumentSource(evidence.document_id, evidence.version), *shown])
    extra = {"fact": task.fact.fact_id, "phrasing": task.phrasing, "answerable": task.answerable}
    return Origin(tuple(sources), cluster=task.cluster, extra=extra)
