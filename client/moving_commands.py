"""`brain export` and `brain import`: done by the stack's own program, which is where the rooms' settings are known."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from client.place import AsJson, Place

__all__ = ["export_all", "import_all"]


def export_all(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    *,
    with_secrets: Annotated[bool, typer.Option(help="Put the files that open API keys into the folder, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write everything into a folder; the stack may run. BRAIN_<ROOM>_… name the back ends of a cluster."""
    _move(context, ["export", str(folder)], {"--with-secrets": with_secrets, "--json": as_json})


def import_all(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder that `brain export` wrote.")],
    *,
    new_secrets: Annotated[bool, typer.Option(help="Go on without the archive's API keys and webhooks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring such a folder into an empty installation that does not run."""
    _move(context, ["import", str(folder)], {"--new-secrets": new_secrets, "--json": as_json})


def _move(context: typer.Context, command: list[str], flags: Mapping[str, bool]) -> None:
    where: Place = context.obj
    given = [flag for flag, is_given in flags.items() if is_given]
    program = [sys.executable, "-m", "services.local", "--state-dir", str(where.state_dir)]
    os.execv(sys.executable, program + command + given)  # noqa: S606  our own interpreter
