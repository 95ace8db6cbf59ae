"""Where the gateway is, and what all verbs of the command share."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client.gateway import Gateway
from client.settings import connection, remembered

__all__ = ["COLLECTION", "AsJson", "Collections", "Place", "collection_ids", "open_gateway", "print_json", "progress"]

COLLECTION = typer.Option("--collection", "-c", envvar="BRAIN_COLLECTION", help="Id or name.")
Collections = Annotated[list[str] | None, COLLECTION]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway is, as the command was told."""

    url: str
    key: str
    state_dir: Path
    transport: httpx.BaseTransport | None

    def open(self) -> Gateway:
        """Return a connection."""
        where = connection(url=self.url, api_key=self.key, state_dir=self.state_dir)
        return Gateway(where, transport=self.transport)


def open_gateway(context: typer.Context) -> Gateway:
    """Return a connection to where the command was told the gateway is."""
    where: Place = context.obj
    return where.open()


def collection_ids(gateway: Gateway, given: list[str] | None) -> list[str]:
    """Return the ids of the collections that are meant: those given, or that of `.brain/client.json`."""
    names = given or [name for name in (remembered("collection"),) if name]
    return [gateway.collection(name) for name in names]


def print_json(value: object) -> None:
    """Print for a program."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def progress(console: Console) -> Progress:
    """Return the bar that long work is shown with."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
