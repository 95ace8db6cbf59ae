"""Graders as OpenAI's fine-tuning API has them: what each holds, and how one is read and written.

| type | result |
|---|---|
| string_check | 1 where the check holds, else 0 |
| text_similarity | from 0 to 1 |
| score_model | a number in the grader's range, said by a model |
| label_model | 1 where a model's label is a passing one, else 0 |
| multi | a formula over the results of others |

`python` is known and refused: no code of callers is run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.finetuning.domain.grader_formula import Formula
from services.finetuning.domain.grader_scores import Metric, StringOperation
from services.finetuning.domain.grader_templates import Sample, Template

__all__ = [
    "Grader",
    "JudgeSampling",
    "JudgeTurn",
    "LabelModel",
    "Multi",
    "Part",
    "ScoreModel",
    "SingleGrader",
    "StringCheck",
    "TextSimilarity",
    "graders_in",
    "needs_model",
    "templates_of",
]


@dataclass(frozen=True, slots=True)
class StringCheck:
    """Compares two texts."""

    name: str
    input: Template
    reference: Template
    operation: StringOperation

    type = "string_check"


@dataclass(frozen=True, slots=True)
class TextSimilarity:
    """Measures how similar two texts are."""

    name: str
    input: Template
    reference: Template
    metric: Metric

    type = "text_similarity"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn; `kind` is what it was called, empty for a turn that is one text."""

    kind: str
    text: Template


@dataclass(frozen=True, slots=True)
class JudgeTurn:
    """One turn of what a judge reads."""

    role: str
    parts: tuple[Part, ...]

    def render(self, sample: Sample, item: Mapping[str, Any]) -> str:
        """Return its text.

        Raises:
            Ungradable: A value is missing.
        """
        return "\n".join(part.text.render(sample, item) for part in self.parts)


@dataclass(frozen=True, slots=True)
class JudgeSampling:
    """How a judge's tokens are drawn; greedy unless the grader says otherwise, so that a grade can be had again."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class ScoreModel:
    """Has a model give a number from `low` to `high`."""

    name: str
    model: str
    turns: tuple[JudgeTurn, ...]
    low: float
    high: float
    sampling: JudgeSampling

    type = "score_model"


@dataclass(frozen=True, slots=True)
class LabelModel:
    """Has a model choose one of `labels`."""

    name: str
    model: str
    turns: tuple[JudgeTurn, ...]
    labels: tuple[str, ...]
    passing: tuple[str, ...]
    sampling: JudgeSampling

    type = "label_model"


SingleGrader = StringCheck | TextSimilarity | ScoreModel | LabelModel


@dataclass(frozen=True, slots=True)
class Multi:
    """Joins several graders by a formula over their results."""

    name: str
    graders: Mapping[str, SingleGrader]
    formula: Formula

    type = "multi"


Grader = SingleGrader | Multi


def graders_in(grader: Grader) -> Iterator[SingleGrader]:
    """Return the graders that give results of their own."""
    if isinstance(grader, Multi):
        yield from grader.graders.values()
    else:
        yield grader


def needs_model(grader: Grader) -> bool:
    """Return whether a model must be asked: a judge, or the one that makes vectors."""
    return any(
        isinstance(single, ScoreModel | LabelModel)
        or (isinstance(single, TextSimilarity) and single.metric is Metric.COSINE)
        for single in graders_in(grader)
    )


def templates_of(grader: Grader) -> Iterator[Template]:
    """Return every template of a grader."""
    for single in graders_in(grader):
        match single:
            case StringCheck() | TextSimilarity():
                yield single.input
                yield single.reference
            case ScoreModel() | LabelModel():
                yield from (part.text for turn in single.turns for part in turn.parts)
