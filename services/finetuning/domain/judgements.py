"""What people say of answers, and the rows that it makes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from services.finetuning.domain.near_duplicates import fingerprint, normalised
from services.finetuning.domain.rows import (
    ASSISTANT,
    DocumentSource,
    FeedbackSource,
    KtoRow,
    Origin,
    PreferenceRow,
    PromptRow,
    RowSource,
    Turn,
)


class JudgementKind(StrEnum):
    """Kinds of judgement."""

    THUMB_UP = "thumb_up"
    THUMB_DOWN = "thumb_down"
    EDIT = "edit"
    RANKING = "ranking"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody said of one answer, or of several.

    Attributes:
        feedback_id: Id.
        kind: Kind.
        turns: The conversation as the model read it, the question last.
        answers: The judged answers: one, or two to four of a ranking.
        rater: Who judged, as a principal.
        ranks: Of a ranking the rank of each answer, from 1 for the best; equal ranks are ties.
        edited: Of an edit the better answer.
        model: Model that gave the answer.
        collection_ids: Collections that the answer was drawn from.
        documents: Document versions that its prompt held.
    """

    feedback_id: str
    kind: JudgementKind
    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    rater: str
    ranks: tuple[int, ...] = ()
    edited: str = ""
    model: str = ""
    collection_ids: tuple[str, ...] = ()
    documents: tuple[DocumentSource, ...] = ()


def newest_only(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Return judgements, oldest first, without those that their rater replaced by another of the same kind of thing.

    A thumb replaces an earlier thumb of the same rater on the same answer, an edit an edit, a ranking a ranking.
    """
    kept: dict[tuple[str, ...], Judgement] = {}
    for judgement in judgements:
        thumb = judgement.kind in {JudgementKind.THUMB_UP, JudgementKind.THUMB_DOWN}
        key = (
            judgement.rater,
            "thumb" if thumb else judgement.kind.value,
            _prompt(judgement),
            *sorted(fingerprint(answer) for answer in judgement.answers),
        )
        kept.pop(key, None)
        kept[key] = judgement
    return tuple(kept.values())


def kto_rows(judgement: Judgement) -> Iterator[KtoRow]:
    """Yield the row of a thumb; nothing of other judgements."""
    if judgement.kind in {JudgementKind.THUMB_UP, JudgementKind.THUMB_DOWN}:
        for answer in judgement.answers:
            messages = (*judgement.turns, Turn(ASSISTANT, answer))
            yield KtoRow(messages, judgement.kind is JudgementKind.THUMB_UP, origin=_origin(judgement))


def preference_rows(judgement: Judgement) -> Iterator[PreferenceRow]:
    """Yield the rows of an edit or a ranking: of a ranking all pairs but ties. Pairs that say the same are none."""
    match judgement.kind:
        case JudgementKind.EDIT:
            pairs = [(judgement.edited, answer) for answer in judgement.answers]
        case JudgementKind.RANKING:
            ranked = sorted(zip(judgement.ranks, judgement.answers, strict=True), key=lambda one: one[0])
            pairs = [(best, worse) for (high, best), (low, worse) in combinations(ranked, 2) if high < low]
        case _:
            pairs = []
    for preferred, rejected in pairs:
        if normalised(preferred) != normalised(rejected):
            yield PreferenceRow(
                judgement.turns,
                (Turn(ASSISTANT, preferred),),
                (Turn(ASSISTANT, rejected),),
                origin=_origin(judgement),
            )


def prompt_rows(judgement: Judgement) -> Iterator[PromptRow]:
    """Yield the conversation without its answer: something that people ask."""
    yield PromptRow(judgement.turns, origin=_origin(judgement))


def _origin(judgement: Judgement) -> Origin:
    # What the prompt held was read by who trains on it: deleting one of its documents reaches the row.
    sources: tuple[RowSource, ...] = (FeedbackSource(judgement.feedback_id), *dict.fromkeys(judgement.documents))
    return Origin(sources, cluster=f"question:{_prompt(judgement)[:16]}", rater=judgement.rater)


def _prompt(judgement: Judgement) -> str:
    return fingerprint("\n".join(turn.content for turn in judgement.turns))
