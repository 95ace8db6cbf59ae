"""What several verbs of the command share: their options, the connection, and how they print for programs."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from client.gateway import Gateway
from client.settings import connection, remembered

__all__ = ["AsJson", "Collection", "Collections", "Place", "ids", "open_gateway", "print_json"]

_COLLECTION = typer.Option("--collection", "-c", envvar="BRAIN_COLLECTION", help="Id or name.")
Collection = Annotated[str, _COLLECTION]
Collections = Annotated[list[str] | None, _COLLECTION]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway is, and who asks."""

    url: str
    key: str
    state_dir: Path
    transport: httpx.BaseTransport | None

    def open(self) -> Gateway:
        """Return a connection."""
        where = connection(url=self.url, api_key=self.key, state_dir=self.state_dir)
        return Gateway(where, transport=self.transport)


def open_gateway(context: typer.Context) -> Gateway:
    """Return a connection to the gateway that the command was told of."""
    where: Place = context.obj
    return where.open()


def ids(gateway: Gateway, given: list[str] | None) -> list[str]:
    """Return the ids of collections given by id or name, or of the remembered one."""
    names = given or [name for name in (remembered("collection"),) if name]
    return [gateway.collection(name) for name in names]


def print_json(value: object) -> None:
    """Print for a program."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
