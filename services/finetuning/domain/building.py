"""How rows are to be made, what came of it, and how far it is."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.importing.formats import FORMATS, Format


class DatasetKind(StrEnum):
    """What rows a dataset holds."""

    TEXT = "text"
    QUESTIONS = "questions"
    RAFT = "raft"
    KTO = "kto"
    PREFERENCES = "preferences"
    IMPORT = "import"
    PROMPTS = "prompts"


GOLD_SHARE: Final = 0.8
"""Share of reading rows that hold the gold passage (RAFT, arXiv:2403.10131, found .6 to .8 best)."""
HELD_OUT_SHARE: Final = 0.1
"""Share of the clusters that are held out."""
PHRASINGS: Final = 3
"""Phrasings of each question."""

_MOST_PHRASINGS: Final = 5
_MOST_PASSAGES: Final = 20
_MOST_ROWS: Final = 200_000
_OF_DOCUMENTS: Final = frozenset({DatasetKind.TEXT, DatasetKind.QUESTIONS, DatasetKind.RAFT, DatasetKind.PROMPTS})


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """How to make rows.

    Attributes:
        kind: What rows.
        collection_ids: Collections that the documents, or the judged answers, are from.
        document_ids: Only these documents; empty for all that the caller may read.
        file_id: File to import; of questions and reading rows: facts that somebody wrote.
        format: Format of the file to import; empty looks at it.
        max_rows: Most rows; 0 for no limit.
        passages_per_row: Passages of a reading row; 0 takes as many as are served.
        gold_share: Share of reading rows that hold the gold passage.
        unanswerable_share: Share of reading rows whose answer is not in the documents.
        phrasings: Phrasings of each question.
        held_out_share: Share of the clusters that are held out.
        seed: Of everything that is drawn.
        writer_model: Model that writes questions; empty makes them from tables and sentences.
    """

    kind: DatasetKind
    collection_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    file_id: str = ""
    format: str = ""
    max_rows: int = 0
    passages_per_row: int = 0
    gold_share: float = GOLD_SHARE
    unanswerable_share: float = round(1 - GOLD_SHARE, 6)
    phrasings: int = PHRASINGS
    held_out_share: float = HELD_OUT_SHARE
    seed: int = 0
    writer_model: str = ""

    def checked(self) -> "BuildSpec":
        """Return itself.

        Raises:
            InvalidInput: A field is out of bounds, or one that the kind needs is missing; `param` names it.
        """
        if self.kind in _OF_DOCUMENTS and not self.collection_ids:
            raise _refused(
                "collection_ids", "is empty", f"name the collections whose documents the rows of {self.kind} are of"
            )
        if self.kind is DatasetKind.IMPORT and not self.file_id:
            raise _refused("file_id", "is empty", "name the file to import")
        if self.format and self.format not in set(Format):
            raise _refused("format", f"{self.format!r} is not allowed", f"use {FORMATS}")
        for name, value, low, high in (
            ("max_rows", self.max_rows, 0, _MOST_ROWS),
            ("passages_per_row", self.passages_per_row, 0, _MOST_PASSAGES),
            ("phrasings", self.phrasings, 1, _MOST_PHRASINGS),
            ("gold_share", self.gold_share, 0.0, 1.0),
            ("unanswerable_share", self.unanswerable_share, 0.0, 1.0),
            ("held_out_share", self.held_out_share, 0.0, 0.9),
        ):
            # Written so that a NaN is out of bounds.
            if not low <= value <= high:
                raise _refused(name, f"{value} is not allowed", f"use {low} to {high}")
        if abs(self.gold_share + self.unanswerable_share - 1) > 1e-6:
            raise _refused(
                "unanswerable_share",
                f"{self.unanswerable_share} is not allowed beside a gold_share of {self.gold_share}",
                "both must make 1: a row without the gold passage has no answer",
            )
        return self


def _refused(name: str, what: str, use: str) -> InvalidInput:
    return InvalidInput(f"{name}: {what}; {use}.", param=name)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is.

    Attributes:
        step: What is being done: documents, judgements, questions, passages, rows, files.
        done: Pieces done.
        total: Pieces in all; 0 when that is not known yet.
    """

    step: str
    done: int
    total: int


Report = Callable[[Progress], None]
"""Hears how far a build is; never waits."""


@dataclass(slots=True)
class Tally:
    """Counts what was made, what was left out and why (docs/tuning.md)."""

    left_out: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count something that makes no row."""
        if count:
            self.left_out[reason] += count

    def count(self, name: str, number: int = 1) -> None:
        """Count something that was made."""
        self.numbers[name] += number


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a build.

    Attributes:
        rows: Rows to train on.
        held_out_rows: Rows held out.
        documents: Documents that the rows come from.
        judgements: Judgements that the rows come from.
        left_out: What made no row, by reason.
        numbers: What was made on the way: facts, answerable and unanswerable rows.
        notes: Sentences for a person: a format that was found, faults of an imported file.
    """

    rows: int
    held_out_rows: int
    documents: int
    judgements: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as one JSON object."""
        found: dict[str, Any] = {
            "rows": self.rows,
            "held_out_rows": self.held_out_rows,
            "documents": self.documents,
            "judgements": self.judgements,
            "left_out": dict(self.left_out),
            "numbers": dict(self.numbers),
            "notes": list(self.notes),
        }
        return json.dumps(found, ensure_ascii=False)
