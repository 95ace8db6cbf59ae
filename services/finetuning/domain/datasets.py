"""Datasets: rows made from documents, judgements or other files, as they are remembered."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.finetuning.domain.building import BuildSpec
from services.finetuning.domain.owners import Owner

__all__ = ["BUILD_JOB", "Dataset", "DatasetStatus", "drawn_seed"]

# Kind of work in the job table.
BUILD_JOB: Final = "build"


class DatasetStatus(StrEnum):
    """Where a dataset stands."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


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
        report_json: What was made, left out and why; while it is built, how far that is.
        error: Why it failed.
    """

    dataset_id: str
    tenant: str
    owner: Owner
    name: str
    status: DatasetStatus
    spec: BuildSpec
    created_at: float
    training_file: str = ""
    held_out_file: str = ""
    rows: int = 0
    held_out_rows: int = 0
    documents: int = 0
    judgements: int = 0
    report_json: str = ""
    error: str = ""


def drawn_seed() -> int:
    """Return a seed for who gave none."""
    return random.SystemRandom().randrange(1 << 31)
