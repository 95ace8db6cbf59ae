"""A builder between the ports in memory."""

import json
from dataclasses import dataclass, field
from typing import Any

from services.finetuning.backends.prompt_files import read_writing
from services.finetuning.domain.building import BuildSpec, DatasetKind, Progress
from services.finetuning.domain.row_reading import read_rows
from services.finetuning.domain.rows import Row
from services.finetuning.ports.tokens import Tokens
from services.finetuning.usecases.building import BuildDataset, Built
from services.finetuning.usecases.facts import FindFacts
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.reading_sets import MakeReadingRows
from services.finetuning.usecases.sources import ReadSources
from services.finetuning.usecases.written_facts import WriteFacts
from services.layout.texts import read_layout
from tests.unit.services.finetuning.memory import ExtractiveModel, MemoryCompany, MemoryFiles, MemoryJudgements

LAYOUT = read_layout()
WINDOW = 4096


@dataclass
class Builder:
    """Builds datasets and reads back what was built."""

    tokens: Tokens
    company: MemoryCompany = field(default_factory=MemoryCompany)
    files: MemoryFiles = field(default_factory=MemoryFiles)
    judgements: MemoryJudgements = field(default_factory=MemoryJudgements)
    model: ExtractiveModel = field(default_factory=ExtractiveModel)
    progress: list[Progress] = field(default_factory=list)

    async def __call__(self, kind: str, **more: Any) -> "Result":
        spec = BuildSpec(DatasetKind(kind), **({"collection_ids": ("vs_1",)} | more))
        read_rows_of = ReadRows(files=self.files)
        build = BuildDataset(
            documents=self.company,
            judgements=self.judgements,
            files=self.files,
            read_rows=read_rows_of,
            read_sources=ReadSources(documents=self.company),
            find_facts=FindFacts(
                read_rows=read_rows_of,
                write_facts=WriteFacts(writer=self.model, passages=self.company, writing=read_writing(), layout=LAYOUT),
            ),
            make_reading_rows=MakeReadingRows(
                passages=self.company, tokens=self.tokens, layout=LAYOUT, served_passages=5, window=WINDOW
            ),
            layout=LAYOUT,
        )
        built = await build(spec, name="Fernwood rows", report=self.progress.append)
        return Result(built, self._rows(built.training_file, built), self._rows(built.held_out_file, built))

    def _rows(self, file_id: str, built: Built) -> list[Row]:
        if not file_id:
            return []
        found = read_rows([self.files.kept[file_id][1]], built.kind)
        assert found.errors == ()
        return [one.row for one in found.rows]


@dataclass
class Result:
    """What was built, read back from its files."""

    built: Built
    training: list[Row]
    held_out: list[Row]

    @property
    def rows(self) -> list[Row]:
        return [*self.training, *self.held_out]

    @property
    def left_out(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.built.summary.to_json())["left_out"]
        return found
