"""Facts for a build: from tables and sentences, from a model, or from a file that somebody wrote."""

import asyncio
from collections.abc import Iterator, Sequence

from services.chassis.errors import InvalidInput
from services.finetuning.domain.building import BuildSpec, Progress, Report, Tally
from services.finetuning.domain.documents import DocumentText, chunks
from services.finetuning.domain.fact_files import AskedFact, FactFile, read_facts
from services.finetuning.domain.facts import (
    FROM_FILE,
    Evidence,
    Fact,
    answered_differently,
    fault_of,
    found_by,
    located,
    sentence_with,
    with_good_phrasings,
)
from services.finetuning.domain.patterns import sentence_facts
from services.finetuning.domain.tables import table_facts
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.sources import SourceSet
from services.finetuning.usecases.written_facts import WriteFacts


class FindFacts:
    """Finds the facts that questions are asked about.

    Args:
        read_rows: Reads files with facts.
        write_facts: Has a model write them.
    """

    def __init__(self, *, read_rows: ReadRows, write_facts: WriteFacts) -> None:
        self._read_rows = read_rows
        self._write_facts = write_facts

    async def __call__(self, spec: BuildSpec, sources: SourceSet, tally: Tally, report: Report) -> tuple[Fact, ...]:
        """Return the facts that can be asked for: each with its evidence, none answered otherwise by another.

        Raises:
            NotFound: There is no such file or model.
            InvalidInput: The file with facts has faults.
        """
        if spec.file_id:
            found = await self._from_file(spec, sources, tally)
        elif spec.writer_model:
            found = await self._write_facts(spec, sources, tally, report)
        else:
            found = await asyncio.to_thread(_by_pattern, sources.texts, report)
        return await asyncio.to_thread(_sound, found, spec, tally)

    async def _from_file(self, spec: BuildSpec, sources: SourceSet, tally: Tally) -> list[Fact]:
        file: FactFile = await self._read_rows.read(spec.file_id, read_facts)
        if file.errors:
            listed = "; ".join(str(error) for error in file.errors[:5])
            raise InvalidInput(f"file_id: {file.error_count} faults: {listed}.", param="file_id")
        return await asyncio.to_thread(_placed, file.facts, sources.texts, tally)


def _by_pattern(texts: Sequence[DocumentText], report: Report) -> list[Fact]:
    found = []
    for at, text in enumerate(texts, start=1):
        for chunk in chunks(text):
            found += [*table_facts(chunk), *sentence_facts(chunk)]
        report(Progress("questions", at, len(texts)))
    return found


def _placed(asked: Sequence[AskedFact], texts: Sequence[DocumentText], tally: Tally) -> list[Fact]:
    """Find what somebody wrote in the documents."""
    found = []
    by_id = {text.document.document_id: text for text in texts}
    for fact in asked:
        evidence = _evidence(fact, texts, by_id)
        if isinstance(evidence, str):
            tally.leave_out(evidence)
            continue
        quoted = sentence_with(evidence.quote, fact.answer)
        found.append(Fact(fact.phrasings, fact.answer, evidence, quoted=quoted, origin=FROM_FILE))
    return found


def _evidence(fact: AskedFact, texts: Sequence[DocumentText], by_id: dict[str, DocumentText]) -> Evidence | str:
    """Return where a fact stands, or why that is not known."""
    if fact.source:
        document = found_by(fact.source, [text.document for text in texts])
        if document is None:
            return "source_not_found"
        candidates: Iterator[DocumentText] = iter([by_id[document.document_id]])
    elif fact.evidence:
        candidates = iter(texts)
    else:
        return "source_missing"
    for text in candidates:
        if not fact.evidence:
            return located(fact.phrasings[0], fact.answer, text) or "answer_not_in_document"
        start = text.text.find(fact.evidence)
        if start >= 0:
            source = text.document
            return Evidence(source.document_id, source.version, start, start + len(fact.evidence), fact.evidence)
    return "evidence_not_in_document"


def _sound(facts: Sequence[Fact], spec: BuildSpec, tally: Tally) -> tuple[Fact, ...]:
    """Return the facts that can be asked for, once each."""
    kept: dict[str, Fact] = {}
    for fact in facts:
        fault = fault_of(fact)
        if fault:
            tally.leave_out(fault)
            continue
        good = with_good_phrasings(fact, spec.phrasings)
        kept.setdefault(good.fact_id, good)
    sound = list(kept.values())
    ambiguous = answered_differently(sound)
    tally.leave_out("answered_differently", len(ambiguous))
    tally.count("facts", len(sound) - len(ambiguous))
    return tuple(fact for at, fact in enumerate(sound) if at not in ambiguous)
