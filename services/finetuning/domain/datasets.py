"""Datasets: rows made from documents, judgements or other files, and how they are to be made."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.owners import Owner

__all__ = ["BUILD_JOB", "Dataset", "DatasetKind", "DatasetSpec", "DatasetStatus", "check_spec", "drawn_seed"]

# Kind of work in the job table.
BUILD_JOB: Final = "build"
_FORMATS: Final = ("openai_chat", "openai_preference", "alpaca", "sharegpt", "csv")
_FROM_DOCUMENTS: Final = frozenset({"text", "questions", "raft"})


class DatasetKind(StrEnum):
    """What rows a dataset holds."""

    TEXT = "text"
    QUESTIONS = "questions"
    RAFT = "raft"
    KTO = "kto"
    PREFERENCES = "preferences"
    IMPORT = "import"
    PROMPTS = "prompts"


class DatasetStatus(StrEnum):
    """Where a dataset stands."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """How to make rows.

    Attributes:
        kind: What rows.
        seed: Seed of everything that is drawn.
        collection_ids: Collections that documents, or judged answers, are from.
        document_ids: Only these documents; empty for all that the caller may read.
        file_id: File to import.
        format: Its format; empty lets the room look.
        max_rows: Most rows; 0 for no limit.
        passages_per_row: Passages in a reading row; 0 takes as many as are served.
        gold_share: Share of reading rows that hold the gold passage.
        unanswerable_share: Share of reading rows whose answer is not in the documents.
        phrasings: Phrasings of each question.
        held_out_share: Share of clusters that are held out.
        writer_model: Model that writes questions and answers; empty for templates.
    """

    kind: DatasetKind
    seed: int
    collection_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    file_id: str = ""
    format: str = ""
    max_rows: int = 0
    passages_per_row: int = 0
    gold_share: float = 0.8
    unanswerable_share: float = 0.2
    phrasings: int = 3
    held_out_share: float = 0.1
    writer_model: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset.

    Attributes:
        dataset_id: Id.
        tenant: Tenant.
        owner: Who created it.
        name: Name that people know it by.
        status: Where it stands.
        spec: How it was made.
        created_at: Seconds since 1970.
        training_file: File with the rows to train on; empty before.
        held_out_file: File with the rows that are held out; empty for none.
        rows: Rows to train on.
        held_out_rows: Rows held out.
        documents: Documents that rows come from.
        judgements: Judgements that rows come from.
        report_json: What was made, left out and why.
        error: Why it failed.
    """

    dataset_id: str
    tenant: str
    owner: Owner
    name: str
    status: DatasetStatus
    spec: DatasetSpec
    created_at: float
    training_file: str = ""
    held_out_file: str = ""
    rows: int = 0
    held_out_rows: int = 0
    documents: int = 0
    judgements: int = 0
    report_json: str = ""
    error: str = ""


def check_spec(spec: DatasetSpec) -> None:
    """Refuse what no rows can be made of.

    Raises:
        InvalidInput: A field is missing or out of its bounds.
    """
    if spec.kind is DatasetKind.IMPORT:
        if not spec.file_id:
            raise InvalidInput("file_id: an import needs a file.", param="file_id")
        if spec.format and spec.format not in _FORMATS:
            raise InvalidInput(
                f"format: {spec.format!r} is not known; use {', '.join(_FORMATS)} or leave it out.", param="format"
            )
    elif spec.kind.value in _FROM_DOCUMENTS and not spec.collection_ids:
        raise InvalidInput(f"collections: {spec.kind.value} rows need at least one collection.", param="collections")
    for name, low, high in (
        ("gold_share", 0.0, 1.0),
        ("unanswerable_share", 0.0, 0.9),
        ("held_out_share", 0.0, 0.9),
        ("phrasings", 1, 8),
        ("passages_per_row", 0, 32),
        ("max_rows", 0, 1_000_000),
    ):
        value = getattr(spec, name)
        if not low <= value <= high:
            raise InvalidInput(f"{name}: {value!r} is not allowed; give {low:g} to {high:g}.", param=name)


def drawn_seed() -> int:
    """Return a seed for who gave none."""
    return random.SystemRandom().randrange(1 << 31)
