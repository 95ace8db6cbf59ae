"""`python -m services.local export|import FOLDER` for people and programs: a bar, what was done, what is left to do."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.chassis.errors import BrainError
from services.chassis.logging import start_logging
from services.local.moving import export_all, import_all

__all__ = ["export_or_import"]


def export_or_import(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Do what was asked for and say what was done; return the exit status."""
    start_logging("local", level="warning", form="console")
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what)
        bars.update(tasks[what], completed=done, total=total)

    where = {"state_dir": asked.state_dir, "environment": environment, "folder": asked.folder, "tell": tell}
    try:
        with bars:
            if asked.command == "export":
                done = asyncio.run(export_all(**where, with_secrets=asked.with_secrets))
            else:
                done = asyncio.run(import_all(**where, new_secrets=asked.new_secrets))
    except BrainError as error:
        console.print(f"[red]{asked.command} failed:", error.message, highlight=False, soft_wrap=True)
        if error.private:
            console.print(error.private, highlight=False, markup=False, soft_wrap=True)
        return 1
    if asked.json:
        sys.stdout.write(json.dumps(done) + "\n")
    else:
        _show(Console(), done)
    return 0


def _show(console: Console, done: Mapping[str, Any]) -> None:
    rows = ", ".join(f"{room} {count}" for room, count in done["rooms"].items())
    blobs = done["blobs"]["count"] if isinstance(done["blobs"], dict) else done["blobs"]
    console.print(f"Rows: {rows}. Blobs: {blobs}.", highlight=False)
    if by_hand := done.get("bring_by_hand"):
        console.print(
            "The archive holds no secrets. Bring these files to the new place yourself, before you import: without them API "
            "keys and the secrets of webhooks do not work there.",
            soft_wrap=True,
        )
        for name, path in by_hand.items():
            console.print(f"  {name}: {path}", highlight=False, soft_wrap=True)
    if done.get("rebuild"):
        console.print(
            "Other vectors are made here: documents are embedded anew after the start, and found as they are done."
        )
