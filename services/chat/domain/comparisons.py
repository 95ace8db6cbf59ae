"""Comparisons: answers to one question, sampled to be ranked."""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput
from services.chat.domain.feedback import (
    AnswerRank,
    Feedback,
    FeedbackKind,
    Judged,
    JudgedSource,
    Judgement,
    checked_comment,
)
from services.chat.domain.turn import Message, Question, Sampling

__all__ = [
    "ComparedAnswer",
    "Comparison",
    "SamplesWanted",
    "checked_ranks",
    "checked_samples",
    "judged_comparison",
]

_FEWEST_ANSWERS: Final = 2
_MOST_ANSWERS: Final = 4
_MOST_RATERS: Final = 100
_PRINCIPAL: Final = re.compile(r"(user|group):\S(.{0,250}\S)?")
_HOTTEST: Final = 2.0


@dataclass(frozen=True, slots=True)
class SamplesWanted:
    """Answers to sample: `models` are drawn from by turns, `raters` are those who may rank beside the caller."""

    question: Question
    models: tuple[str, ...]
    answers: int
    raters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """An answer of a comparison; the id tells nothing of who gave it."""

    id: str
    text: str
    model: str
    asked_model: str
    seed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two to four answers to one question, to be ranked by those of `raters` who may read what the prompt held.

    `messages` is the conversation as the model read it, without passages, the question last; `question` is it as asked.
    """

    id: str
    tenant: str
    owner: str
    created_at: datetime
    messages: tuple[Message, ...]
    question: str
    collection_ids: tuple[str, ...]
    sources: tuple[JudgedSource, ...]
    raters: tuple[str, ...]
    answers: tuple[ComparedAnswer, ...]

    def is_for(self, caller: Caller) -> bool:
        """Whether the caller is one of the raters; that the documents may be read is another question."""
        mine = caller.subject == self.owner or caller.is_administrator or not self.raters
        return caller.tenant == self.tenant and (mine or not set(self.raters).isdisjoint(caller.principals))

    def shown_to(self, rater: str) -> tuple[ComparedAnswer, ...]:
        """Return the answers in the rater's own order: random, so that no place is favoured, and always the same."""
        seed = hashlib.sha256(f"{self.id} {rater}".encode()).digest()
        return tuple(random.Random(seed).sample(self.answers, len(self.answers)))  # noqa: S311  an order, no secret


def checked_samples(wanted: SamplesWanted, *, temperature: float) -> SamplesWanted:
    """Return what is to be sampled, with what was left out filled in.

    Args:
        wanted: As it was asked for.
        temperature: Used when the caller does not say.

    Raises:
        InvalidInput: A field is out of range.
    """
    answers = wanted.answers or _FEWEST_ANSWERS
    if not _FEWEST_ANSWERS <= answers <= _MOST_ANSWERS:
        raise InvalidInput(
            f"answers: {answers} is not allowed; use {_FEWEST_ANSWERS} to {_MOST_ANSWERS}.", param="answers"
        )
    if len(wanted.models) > answers:
        raise InvalidInput(
            f"models: {len(wanted.models)} are not allowed for {answers} answers; use at most {answers}.",
            param="models",
        )
    drawn = wanted.question.sampling
    if drawn.temperature is not None and not 0 < drawn.temperature <= _HOTTEST:
        raise InvalidInput(
            f"sampling.temperature: {drawn.temperature:g} is not allowed; use more than 0 and at most {_HOTTEST:g}.",
            param="sampling.temperature",
        )
    if drawn.n > 1:
        raise InvalidInput(f"sampling.n: {drawn.n} is not allowed; use answers.", param="sampling.n")
    sampling: Sampling = replace(drawn, temperature=drawn.temperature or temperature, n=1, logprobs=False)
    models = wanted.models or ("",)
    question = replace(wanted.question, model=models[0], sampling=sampling)
    return SamplesWanted(question, models, answers, _checked_raters(wanted.raters))


def _checked_raters(raters: Sequence[str]) -> tuple[str, ...]:
    if len(raters) > _MOST_RATERS:
        raise InvalidInput(f"raters: {len(raters)} are not allowed; use at most {_MOST_RATERS}.", param="raters")
    for place, name in enumerate(raters):
        if not _PRINCIPAL.fullmatch(name):
            raise InvalidInput(
                f"raters[{place}]: {name!r} is not allowed; use user:NAME or group:NAME.", param=f"raters[{place}]"
            )
    return tuple(dict.fromkeys(raters))


def checked_ranks(comparison: Comparison, ranks: Sequence[AnswerRank], comment: str) -> Judgement:
    """Return a ranking as it is kept: ranks without gaps, in the order of the comparison's answers.

    Raises:
        InvalidInput: An answer is not of this comparison, has no rank or two, or a rank is out of range.
    """
    names = [answer.id for answer in comparison.answers]
    given: dict[str, int] = {}
    for place, one in enumerate(ranks):
        if one.answer_id not in names:
            raise InvalidInput(
                f"ranks[{place}].answer_id: {one.answer_id!r} is not allowed; use {', '.join(names)}.",
                param=f"ranks[{place}].answer_id",
            )
        if one.answer_id in given:
            raise InvalidInput(
                f"ranks[{place}].answer_id: {one.answer_id!r} is not allowed again; rank each answer once.",
                param=f"ranks[{place}].answer_id",
            )
        if not 1 <= one.rank <= len(names):
            raise InvalidInput(
                f"ranks[{place}].rank: {one.rank} is not allowed; use 1 for the best to {len(names)}.",
                param=f"ranks[{place}].rank",
            )
        given[one.answer_id] = one.rank
    if missing := [name for name in names if name not in given]:
        raise InvalidInput(f"ranks: {', '.join(missing)} is missing; rank each answer.", param="ranks")
    dense = {rank: place for place, rank in enumerate(sorted(set(given.values())), start=1)}
    kept = tuple(AnswerRank(name, dense[given[name]]) for name in names)
    return Judgement(FeedbackKind.RANKING, checked_comment(comment), ranks=kept)


def judged_comparison(feedback: Feedback, comparison: Comparison) -> Judged:
    """Return a ranking with what it is about."""
    ranks = {one.answer_id: one.rank for one in feedback.said.ranks}
    return Judged(
        feedback,
        comparison.messages,
        comparison.question,
        tuple(answer.text for answer in comparison.answers),
        tuple(ranks[answer.id] for answer in comparison.answers),
    )
