"""Grades one answer with a grader, and says how that went as OpenAI's fine-tuning API does."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.chassis.errors import DeadlineExceeded, Internal, Overloaded, Unavailable
from services.finetuning.domain.grader_faults import EXPLAINED, Fault, Ungradable
from services.finetuning.domain.grader_judging import TokenCounts, label_score, question_of, range_score
from services.finetuning.domain.grader_rewards import score_of
from services.finetuning.domain.grader_scores import Metric, cosine_of
from services.finetuning.domain.grader_templates import Sample
from services.finetuning.domain.graders import (
    Grader,
    LabelModel,
    Multi,
    ScoreModel,
    SingleGrader,
    StringCheck,
    TextSimilarity,
)
from services.finetuning.ports.grading import Embedder, Judge

__all__ = ["Grade", "GradeAnswer"]

# What says that the judge's engine failed, and not that the question was wrong.
_ENGINE: Final = (Unavailable, Overloaded, DeadlineExceeded, Internal)


@dataclass(frozen=True, slots=True)
class Grade:
    """How an answer was graded.

    Attributes:
        reward: The result; 0 when there is none.
        sub_rewards: Results of a multi grader's parts, by name.
        metadata: Errors, times and token counts, as OpenAI's answer has them.
    """

    reward: float
    sub_rewards: Mapping[str, float]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Result:
    """What one grader gave."""

    score: float = 0.0
    fault: Ungradable | None = None
    model: str = ""
    tokens: TokenCounts | None = None


class GradeAnswer:
    """Runs a grader on one answer.

    What is wrong with the row, the answer or the judge is a flag of the metadata and gives 0, as OpenAI has it; the words
    stand beside the flag (`…_details`). A judge that does not exist, or may not be asked, is the request's own error.

    Args:
        judge: Asks models.
        embedder: Makes vectors.
        clock: Seconds, to measure with.
    """

    def __init__(self, *, judge: Judge, embedder: Embedder, clock: Callable[[], float] = time.perf_counter) -> None:
        self._judge = judge
        self._embedder = embedder
        self._clock = clock

    async def run(self, grader: Grader, answer: str, item: Mapping[str, Any]) -> Grade:
        """Return the grade of `answer` to the row `item`.

        Raises:
            NotFound: There is no such judge.
            Unavailable: Vectors cannot be made now.
        """
        began = self._clock()
        sample = Sample(answer)
        if isinstance(grader, Multi):
            parts = await self._all(grader.graders, sample, item)
            reward, fault = _joined(grader, parts)
            sub_rewards = {name: part.score for name, part in parts.items()}
            results = [*parts.values(), _Result(reward, fault)]
        else:
            only = await self._one(grader, sample, item)
            reward, sub_rewards, results = only.score, {}, [only]
        metadata = {
            "name": grader.name,
            "type": grader.type,
            "errors": _errors(results),
            "execution_time": self._clock() - began,
            "scores": sub_rewards or {grader.name: reward},
            **_spent(results),
        }
        return Grade(reward, sub_rewards, metadata)

    async def _all(
        self, graders: Mapping[str, SingleGrader], sample: Sample, item: Mapping[str, Any]
    ) -> dict[str, _Result]:
        """Run graders side by side; the first error of the request's own is raised when all have come to their end."""
        running = [self._one(grader, sample, item) for grader in graders.values()]
        found: dict[str, _Result] = {}
        for name, result in zip(graders, await asyncio.gather(*running, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                raise result
            found[name] = result
        return found

    async def _one(self, grader: SingleGrader, sample: Sample, item: Mapping[str, Any]) -> _Result:
        try:
            match grader:
                case ScoreModel() | LabelModel():
                    return await self._judged(grader, sample, item)
                case TextSimilarity(metric=Metric.COSINE):
                    return _Result(await self._cosine(grader, sample, item))
                case StringCheck() | TextSimilarity():
                    # Long texts take a while to compare, and the first comparison loads a library.
                    return _Result(await asyncio.to_thread(score_of, grader, sample, item))
        except Ungradable as fault:
            return _Result(fault=fault)

    async def _cosine(self, grader: TextSimilarity, sample: Sample, item: Mapping[str, Any]) -> float:
        texts = [grader.input.render(sample, item), grader.reference.render(sample, item)]
        left, right = await self._embedder.embed(texts)
        return cosine_of(left, right)

    async def _judged(self, grader: ScoreModel | LabelModel, sample: Sample, item: Mapping[str, Any]) -> _Result:
        question = question_of(grader, sample, item)
        try:
            judgement = await self._judge.judge(question)
        except _ENGINE as error:
            return _Result(fault=Ungradable(Fault.JUDGE_SERVER, error.message))
        try:
            score = range_score(grader, judgement) if isinstance(grader, ScoreModel) else label_score(grader, judgement)
        except Ungradable as fault:
            return _Result(fault=fault, model=judgement.model, tokens=judgement.tokens)
        return _Result(score, model=judgement.model, tokens=judgement.tokens)


def _joined(grader: Multi, parts: Mapping[str, _Result]) -> tuple[float, Ungradable | None]:
    """Return the value of the formula, where a part without a result counts 0."""
    try:
        return grader.formula.value({name: part.score for name, part in parts.items()}), None
    except Ungradable as fault:
        return 0.0, fault


def _errors(results: Sequence[_Result]) -> dict[str, Any]:
    said: dict[Fault, list[str]] = {}
    for result in results:
        if result.fault is not None:
            said.setdefault(result.fault.fault, []).append(result.fault.reason)
    errors: dict[str, Any] = {fault.value: fault in said for fault in Fault}
    errors |= {fault.value + ending: None for fault, ending in EXPLAINED.items()}
    # OpenAI's answer has words for some flags only; ours for each that is set.
    return errors | {fault.value + EXPLAINED.get(fault, "_details"): " ".join(words) for fault, words in said.items()}


def _spent(results: Sequence[_Result]) -> dict[str, Any]:
    by_model: dict[str, TokenCounts] = {}
    for result in results:
        if result.tokens is not None:
            by_model[result.model] = by_model.get(result.model, TokenCounts()) + result.tokens
    models = list(by_model)
    return {
        "token_usage": sum(tokens.prompt + tokens.completion for tokens in by_model.values()) if models else None,
        "sampled_model_name": models[0] if len(models) == 1 else None,
        "model_grader_token_usage_per_model": {
            model: {
                "prompt_tokens": tokens.prompt,
                "completion_tokens": tokens.completion,
                "total_tokens": tokens.prompt + tokens.completion,
                "cached_tokens": tokens.cached,
            }
            for model, tokens in by_model.items()
        },
    }
