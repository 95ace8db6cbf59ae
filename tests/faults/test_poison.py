"""Hostile files among good ones: each ends as it must, and the reader goes on."""

import asyncio
from pathlib import Path

import pytest

from services.ingestion.backends.sandbox import SandboxedReader
from services.ingestion.domain.text import Chunking, ParsedDocument, Unreadable
from tests.faults.poison import good_files, poisons

pytestmark = pytest.mark.timeout(900)


async def test_hostile_files_harm_nobody(tmp_path: Path) -> None:
    reader = SandboxedReader(concurrency=2)
    hostile = poisons()
    assert len(hostile) >= 40

    async def outcome(filename: str, data: bytes, path: Path) -> ParsedDocument | Unreadable:
        await asyncio.to_thread(path.write_bytes, data)
        try:
            return await reader.read(path, filename=filename, chunking=Chunking())
        except Unreadable as error:
            return error

    files = [(poison.filename, poison.data) for poison in hostile] + list(good_files())
    outcomes = await asyncio.gather(
        *(outcome(name, data, tmp_path / str(number)) for number, (name, data) in enumerate(files))
    )
    await reader.close()
    wrong: list[tuple[str, str, object]] = []
    for poison, found in zip(hostile, outcomes, strict=False):
        if isinstance(found, Unreadable):
            right = poison.reason is not None and poison.reason in found.reason and found.code == poison.code
            wrong += [] if right else [(poison.filename, found.code, found.reason)]
        elif poison.reason is not None or (poison.absent and poison.absent in found.text):
            wrong.append((poison.filename, "read", found.warnings))
    assert wrong == []
    assert all(isinstance(found, ParsedDocument) for found in outcomes[len(hostile) :])
