"""Graders that need no model, as reward functions: what a training process calls for each sampled answer."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_faults import Fault, Ungradable
from services.finetuning.domain.grader_scores import similarity, string_check
from services.finetuning.domain.grader_templates import Sample
from services.finetuning.domain.graders import (
    Grader,
    Multi,
    SingleGrader,
    StringCheck,
    TextSimilarity,
    needs_model,
    templates_of,
)

__all__ = ["missing_in", "reward_function", "score_of"]

# Two texts of this length take a second or two; far longer ones would take minutes.
_MAX_COMPARED_CHARACTERS: Final = 65_536

Reward = Callable[[str, Mapping[str, Any]], float]


def reward_function(grader: Grader) -> Reward:
    """Return what grades an answer (text, row) with a number.

    An answer that lacks what the grader asks of it (it is not JSON, or has no such field) gets 0. A row that lacks a field,
    or a formula without a value, is nothing that an answer could mend: the function raises InvalidInput, and
    `missing_in` finds such rows before.

    Raises:
        InvalidInput: The grader needs a model.
    """
    if needs_model(grader):
        raise InvalidInput(
            f"grader: {grader.name[:100]!r} needs a model at every step, which is not offered while training; use "
            "string_check, text_similarity without cosine, or multi over these.",
            param="grader",
        )

    def reward(text: str, item: Mapping[str, Any]) -> float:
        sample = Sample(text)
        try:
            if isinstance(grader, Multi):
                return grader.formula.value({name: _scored(one, sample, item) for name, one in grader.graders.items()})
            return _scored(grader, sample, item)
        except Ungradable as error:
            raise InvalidInput(f"grader: {error.reason}", param="grader") from error

    return reward


def score_of(grader: StringCheck | TextSimilarity, sample: Sample, item: Mapping[str, Any]) -> float:
    """Return the result of a grader that needs no model.

    Raises:
        Ungradable: A value that its templates name is missing, or a text is too long to be compared.
    """
    text, reference = grader.input.render(sample, item), grader.reference.render(sample, item)
    if isinstance(grader, StringCheck):
        return string_check(grader.operation, text, reference)
    if max(len(text), len(reference)) > _MAX_COMPARED_CHARACTERS:
        reason = f"{grader.name}: texts of more than {_MAX_COMPARED_CHARACTERS} characters are not compared."
        raise Ungradable(Fault.OTHER, reason)
    return similarity(grader.metric, text, reference)


def missing_in(grader: Grader, item: Mapping[str, Any]) -> list[str]:
    """Return what a row lacks of what the grader's templates name, as sentences; none for a good row."""
    missing: dict[str, None] = {}
    for template in templates_of(grader):
        for reference in template.references:
            if reference.root != "item":
                continue
            try:
                reference.value(Sample(""), item)
            except Ungradable as error:
                missing[error.reason] = None
    return list(missing)


def _scored(grader: SingleGrader, sample: Sample, item: Mapping[str, Any]) -> float:
    assert isinstance(grader, StringCheck | TextSimilarity)
    try:
        return score_of(grader, sample, item)
    except Ungradable as error:
        if error.of_sample:
            return 0.0
        raise
