"""The ports of the finetuning room in memory, with the behaviour of the rooms behind them."""

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from services.chassis.errors import NotFound
from services.finetuning.ports.files import FINE_TUNE, StoredFile


@dataclass
class MemoryFiles:
    """Files by id."""

    kept: dict[str, tuple[StoredFile, bytes]] = field(default_factory=dict)

    def put(self, data: bytes, *, purpose: str = FINE_TUNE, filename: str = "rows.jsonl") -> str:
        """Keep a file and return its id."""
        file_id = f"file-{len(self.kept) + 1}"
        about = StoredFile(file_id, filename, purpose, len(data), hashlib.sha256(data).hexdigest())
        self.kept[file_id] = (about, data)
        return file_id

    async def about(self, file_id: str) -> StoredFile:
        if file_id not in self.kept:
            raise NotFound(f"No file {file_id!r}.", param="file_id")
        return self.kept[file_id][0]

    async def download(self, file_id: str) -> AsyncIterator[bytes]:
        await self.about(file_id)
        data = self.kept[file_id][1]
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async def upload(self, filename: str, pieces: Iterable[bytes]) -> StoredFile:
        return self.kept[self.put(b"".join(pieces), filename=filename)][0]

    async def delete(self, file_id: str) -> None:
        self.kept.pop(file_id, None)
