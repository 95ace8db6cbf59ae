"""Building a dataset: from documents, judgements or a file to files with rows."""

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain import judgements as judging
from services.finetuning.domain.building import BuildSpec, DatasetKind, Progress, Report, Summary, Tally
from services.finetuning.domain.document_rows import question_rows, text_rows
from services.finetuning.domain.importing import imported
from services.finetuning.domain.judgements import Judgement, JudgementKind
from services.finetuning.domain.near_duplicates import clusters, comparable
from services.finetuning.domain.row_shapes import parsed
from services.finetuning.domain.rows import (
    DocumentSource,
    FeedbackSource,
    Row,
    RowKind,
    as_json,
    as_line,
    kind_of,
)
from services.finetuning.domain.splits import Split, split, straddling
from services.finetuning.ports.documents import Documents
from services.finetuning.ports.files import Files
from services.finetuning.ports.judgements import Judgements
from services.finetuning.usecases.facts import FindFacts
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.reading_sets import MakeReadingRows
from services.finetuning.usecases.sources import ReadSources
from services.layout.texts import LayoutTexts

TRAINING: Final = "training"
"""The split of rows to train on, as rows name it."""
HELD_OUT: Final = "held_out"
"""The split of rows that are held out, as rows name it."""

_JUDGED: Final[dict[DatasetKind, tuple[frozenset[JudgementKind], Callable[[Judgement], Iterable[Row]]]]] = {
    DatasetKind.KTO: (frozenset({JudgementKind.THUMB_UP, JudgementKind.THUMB_DOWN}), judging.kto_rows),
    DatasetKind.PREFERENCES: (frozenset({JudgementKind.EDIT, JudgementKind.RANKING}), judging.preference_rows),
    DatasetKind.PROMPTS: (frozenset(JudgementKind), judging.prompt_rows),
}
_UNNAMED: Final = "dataset"
# Faults of an imported file that the summary lists.
_NOTED: Final = 20
# How many of them are said where a build fails.
_SAID: Final = 4


@dataclass(frozen=True, slots=True)
class Built:
    """A dataset that was made.

    Attributes:
        kind: What its rows teach.
        training_file: File with the rows to train on.
        held_out_file: File with the rows that are held out; empty when there are none.
        summary: What was made, left out and why.
    """

    kind: RowKind
    training_file: str
    held_out_file: str
    summary: Summary


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows before they are written; `held_out` is empty until they are split."""

    training: list[Row]
    held_out: list[Row]
    notes: tuple[str, ...] = ()


class BuildDataset:
    """Makes the rows of a dataset and keeps them as files.

    Everything is read with the token of the caller who asked for the dataset: what they may not read is in no row.

    Args:
        documents: The ingestion room's documents.
        judgements: What people said of answers.
        files: Where rows go.
        read_rows: Reads files to import.
        read_sources: Reads the documents of a build.
        find_facts: Finds what can be asked.
        make_reading_rows: Puts questions among passages.
        layout: How a grounded turn is laid out.
    """

    def __init__(
        self,
        *,
        documents: Documents,
        judgements: Judgements,
        files: Files,
        read_rows: ReadRows,
        read_sources: ReadSources,
        find_facts: FindFacts,
        make_reading_rows: MakeReadingRows,
        layout: LayoutTexts,
    ) -> None:
        self._documents = documents
        self._judgements = judgements
        self._files = files
        self._read_rows = read_rows
        self._read_sources = read_sources
        self._find_facts = find_facts
        self._make_reading_rows = make_reading_rows
        self._layout = layout

    async def __call__(self, spec: BuildSpec, *, name: str, report: Report) -> Built:
        """Make the rows.

        Args:
            spec: How.
            name: Name of the dataset; its files are called after it.
            report: Hears how far it is.

        Raises:
            InvalidInput: The spec contradicts itself, or no row could be made; the message says why.
            NotFound: There is no such collection, file or model that the caller may know of.
            TooLarge: The documents hold more text than a build takes.
            Unavailable: Another room is away.
        """
        spec.checked()
        tally = Tally()
        rows = await self._made(spec, tally, report)
        report(Progress("rows", 0, len(rows.training) + len(rows.held_out)))
        checked = await asyncio.to_thread(self._checked, rows, spec, tally)
        if not checked.training:
            raise InvalidInput(
                _nothing(spec, tally, checked.notes), param="file_id" if spec.file_id else "collection_ids"
            )
        report(Progress("rows", len(checked.training) + len(checked.held_out), len(rows.training) + len(rows.held_out)))
        training = await self._upload(checked.training, name, TRAINING)
        held_out = await self._upload(checked.held_out, name, HELD_OUT) if checked.held_out else ""
        report(Progress("files", 1, 1))
        kind = kind_of(checked.training[0])
        return Built(kind, training, held_out, _summary(checked, tally))

    async def _made(self, spec: BuildSpec, tally: Tally, report: Report) -> _Rows:
        match spec.kind:
            case DatasetKind.IMPORT:
                return await self._import(spec, tally)
            case DatasetKind.KTO | DatasetKind.PREFERENCES:
                return _Rows(await self._of_judgements(spec, tally, report), [])
            case DatasetKind.TEXT:
                sources = await self._read_sources(spec, tally, report)
                made = [
                    row
                    for text in sources.texts
                    for row in text_rows(text, sources.clusters[text.document.document_id])
                ]
                return _Rows(list(made), [])
            case DatasetKind.QUESTIONS:
                sources = await self._read_sources(spec, tally, report)
                facts = await self._find_facts(spec, sources, tally, report)
                asked = [
                    row for fact in facts for row in question_rows(fact, sources.clusters[fact.evidence.document_id])
                ]
                return _Rows(list(asked), [])
            case DatasetKind.RAFT | DatasetKind.PROMPTS:
                return await self._read_among_passages(spec, tally, report)

    async def _read_among_passages(self, spec: BuildSpec, tally: Tally, report: Report) -> _Rows:
        sources = await self._read_sources(spec, tally, report)
        facts = await self._find_facts(spec, sources, tally, report)
        made = await self._make_reading_rows(spec, sources, facts, tally, report)
        for one in made:
            tally.count("answerable" if one.task.answerable else "unanswerable")
        rows = _Rows([one.row for one in made if not one.task.held_out], [one.row for one in made if one.task.held_out])
        if spec.kind is DatasetKind.PROMPTS:
            rows.training.extend(await self._of_judgements(spec, tally, report))
        return rows

    async def _of_judgements(self, spec: BuildSpec, tally: Tally, report: Report) -> list[Row]:
        """Return the rows of judgements whose every document the caller may read."""
        kinds, make = _JUDGED[spec.kind]
        given = [one async for one in self._judgements.given(collection_ids=spec.collection_ids, kinds=kinds)]
        newest = judging.newest_only(given)
        tally.leave_out("replaced_judgement", len(given) - len(newest))
        shown = {source.document for one in newest for source in one.documents}
        readable = await self._documents.readable(shown) if shown else frozenset[str]()
        wanted = set(spec.document_ids)
        rows: list[Row] = []
        for one in newest:
            mine = {source.document for source in one.documents}
            if not mine <= readable:
                tally.leave_out("document_not_readable")
            elif wanted and not mine & wanted:
                tally.leave_out("of_other_documents")
            else:
                made = list(make(one))
                tally.leave_out("says_the_same", 0 if made else 1)
                rows += made
        report(Progress("judgements", len(newest), len(newest)))
        return rows

    async def _import(self, spec: BuildSpec, tally: Tally) -> _Rows:
        found = await self._read_rows.read(
            spec.file_id, lambda pieces: imported(pieces, format_name=spec.format, file_id=spec.file_id)
        )
        tally.leave_out("faults", found.file.error_count)
        notes = [f"read as {found.format}"] if found.format else []
        notes += [str(error) for error in found.file.errors[:_NOTED]]
        return _Rows([one.row for one in found.file.rows], [], tuple(notes))

    def _checked(self, rows: _Rows, spec: BuildSpec, tally: Tally) -> _Rows:
        """Return rows that a training file may hold, split, within the limit, with the name of their side."""
        training, held_out = _sound(rows.training, tally), _sound(rows.held_out, tally)
        near = clusters(comparable([*training, *held_out], self._layout.question), seed=spec.seed)
        if held_out:
            # Chosen by documents before they were made; what is near a row to train on grades nothing.
            first = len(training)
            bad = straddling(range(first), range(first, first + len(held_out)), near)
            tally.leave_out("near_a_training_row", len(bad))
            held_out = [row for at, row in enumerate(held_out, start=first) if at not in bad]
        else:
            training, held_out = self._split(training, near, spec, tally)
        if spec.max_rows:
            training, held_out = _limited(training, held_out, spec, tally)
        return _Rows(_named(training, TRAINING), _named(held_out, HELD_OUT), rows.notes)

    def _split(
        self, rows: Sequence[Row], near: Sequence[int], spec: BuildSpec, tally: Tally
    ) -> tuple[list[Row], list[Row]]:
        found: Split = split(rows, near=near, share=spec.held_out_share, seed=spec.seed, mark=self._layout.question)
        tally.leave_out("on_both_sides", len(found.left_out))
        return [rows[at] for at in found.training], [rows[at] for at in found.held_out]

    async def _upload(self, rows: Sequence[Row], name: str, side: str) -> str:
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or _UNNAMED
        stored = await self._files.upload(f"{plain}-{side.replace('_', '-')}.jsonl", map(as_line, rows))
        return stored.file_id


def _sound(rows: Iterable[Row], tally: Tally) -> list[Row]:
    """Return the rows that would pass as a training file, whatever their content was, each once."""
    kept: dict[bytes, Row] = {}
    for row in rows:
        _, faults = parsed(as_json(row), kind_of(row))
        if faults:
            tally.leave_out(f"row_{faults[0].code}")
        elif (line := as_line(row)) in kept:
            tally.leave_out("same_row")
        else:
            kept[line] = row
    return list(kept.values())


def _limited(training: list[Row], held_out: list[Row], spec: BuildSpec, tally: Tally) -> tuple[list[Row], list[Row]]:
    """Return at most so many rows as are wanted, drawn from all of them, in their order."""
    held = min(len(held_out), round(spec.max_rows * spec.held_out_share))
    most = min(len(training), max(1, spec.max_rows - held))
    tally.leave_out("over_max_rows", len(training) - most + len(held_out) - held)
    drawn = random.Random(spec.seed)  # noqa: S311  a sample that can be drawn again
    kept, graded = (
        [rows[at] for at in sorted(drawn.sample(range(len(rows)), count))]
        for rows, count in ((training, most), (held_out, held))
    )
    return kept, graded


def _named(rows: Sequence[Row], side: str) -> list[Row]:
    return [replace(row, origin=replace(row.origin, split=side)) for row in rows]


def _summary(rows: _Rows, tally: Tally) -> Summary:
    sources = {source for row in (*rows.training, *rows.held_out) for source in row.origin.sources}
    return Summary(
        rows=len(rows.training),
        held_out_rows=len(rows.held_out),
        documents=len({source.document for source in sources if isinstance(source, DocumentSource)}),
        judgements=sum(isinstance(source, FeedbackSource) for source in sources),
        left_out=dict(tally.left_out),
        numbers=dict(tally.numbers),
        notes=rows.notes,
    )


def _nothing(spec: BuildSpec, tally: Tally, notes: Sequence[str]) -> str:
    why = (
        ", ".join(f"{reason} {count}" for reason, count in tally.left_out.most_common(8))
        or "there was nothing to begin with"
    )
    # There is no report to read more in.
    more = f" {' '.join(notes[:_SAID])}" if notes else ""
    return f"No row of {spec.kind} could be made ({why}).{more}"
