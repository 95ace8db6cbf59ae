"""The texts of the layout, from `layout.toml`."""

import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Example:
    """A grounded turn as it should go."""

    title: str
    text: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class LayoutTexts:
    """What a grounded prompt says around documents and question.

    Attributes:
        version: Named by receipts; raised with every change.
        system: The system turn.
        documents: Stands before the documents.
        excerpt: Stands before the stretches that lie nearest to the question.
        question: Stands before the question.
        not_found: What the system turn tells a model to reply when the documents do not hold the answer.
        example: A turn as it should go.
    """

    version: str
    system: str
    documents: str
    excerpt: str
    question: str
    not_found: str
    example: Example


def read_layout() -> LayoutTexts:
    """Return the texts that came with the code."""
    found = tomllib.loads(resources.files("services.layout").joinpath("layout.toml").read_text("utf-8"))
    example = Example(**found.pop("example"))
    return LayoutTexts(example=example, **{key: str(one).strip() for key, one in found.items()})
