"""The commands `export FOLDER` and `import FOLDER` of every room's program.

They print lines of JSON: `{"progress": …}` while they work, and what was done as the last.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.chassis.errors import BrainError
from services.chassis.logging import start_logging
from services.chassis.moving.part import Arrival, RoomPart

__all__ = ["moved"]

_COMMANDS = ("export", "import")


def moved(arguments: Sequence[str], part: Callable[[], RoomPart]) -> bool:
    """Export or import the room's part where that is asked for; return whether it was.

    Args:
        arguments: What the room's program was called with.
        part: Returns the room's part, as its settings say.

    Raises:
        SystemExit: It cannot be done; standard error says why.
    """
    if not arguments or arguments[0] not in _COMMANDS:
        return False
    parser = argparse.ArgumentParser(description="Carry the room's part of an installation to a folder, or from it.")
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("folder", type=Path, help="folder of the archive")
    parser.add_argument("--check", action="store_true", help="import: only see whether it can be done")
    parser.add_argument("--since", type=float, help="import: when the export began, seconds since 1970")
    parser.add_argument("--rebuild", action="store_true", help="import: the index comes without vectors")
    asked = parser.parse_args(arguments)
    room = part()
    start_logging(room.room, level="warning", form="json")
    try:
        report = asyncio.run(_carried_out(room, asked))
    except BrainError as error:
        private = f" ({error.private})" if error.private else ""
        raise SystemExit(error.message + private) from error
    _say(report)
    return True


async def _carried_out(room: RoomPart, asked: argparse.Namespace) -> dict[str, Any]:
    def tell(what: str, done: int, total: int) -> None:
        _say({"progress": {"what": what, "done": done, "total": total}})

    if asked.command == "export":
        part = await room.pack(asked.folder, tell)
        return {"room": room.room, "revision": part.revision, "rows": part.rows}
    part = await room.check(asked.folder)
    if asked.check:
        return {"room": room.room}
    since = part.began if asked.since is None else asked.since
    return await room.unpack(asked.folder, Arrival(since, asked.rebuild), tell)


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
