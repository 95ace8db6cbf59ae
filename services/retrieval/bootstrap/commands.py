"""What the room's process can be started as."""

import argparse
from collections.abc import Sequence
from typing import Final

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.moving.part import RoomPart
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.retrieval.bootstrap.serving import serve
from services.retrieval.domain import IndexState
from services.retrieval.settings import RetrievalSettings

__all__ = ["main"]

_ROLES: Final = ("all", "serve", "index")
# What a command ends with that was stopped before its end.
_STOPPED: Final = 3


def main(arguments: Sequence[str]) -> None:
    """Run the role or command that the arguments name.

    Raises:
        SystemExit: It ended otherwise than it should; the log says why.
    """
    if moved(arguments, _part):
        return
    parser = argparse.ArgumentParser(prog="python -m services.retrieval", description="The retrieval room.")
    roles = parser.add_subparsers(dest="role", metavar="role")
    for role, said in zip(_ROLES, ("answer calls and index (the default)", "answer calls", "index"), strict=True):
        roles.add_parser(role, help=said)
    changing = roles.add_parser(
        "reembed", help="build the index of next_embedder_url beside the live one, and make it the live one"
    )
    instead = changing.add_mutually_exclusive_group()
    instead.add_argument("--drop-old", action="store_true", help="remove the index that was live before")
    instead.add_argument("--abandon", action="store_true", help="remove the index that is being built")
    given = parser.parse_args(arguments)
    settings = load(RetrievalSettings)
    start_logging("retrieval", level=settings.log_level, form=settings.log_format)
    start_telemetry("retrieval", settings)
    if given.role != "reembed":
        run(serve(settings, role=given.role or "all"))
        return
    from services.retrieval.bootstrap.reembedding import reembed, remove  # noqa: PLC0415  only the command draws bars

    if given.drop_old or given.abandon:
        run(remove(settings, IndexState.OLD if given.drop_old else IndexState.BUILDING))
    elif not run(reembed(settings)):
        raise SystemExit(_STOPPED)


def _part() -> RoomPart:
    from services.retrieval.bootstrap.moving import moving  # noqa: PLC0415  not while the room runs

    return moving(load(RetrievalSettings))
