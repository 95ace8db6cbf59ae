"""Ingesting and asking as a user of the gateway does, for the benchmarks of answers."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console

from client.commands import wait_until_final
from client.gateway import Gateway
from client.rendering import Answer
from client.settings import Connection
from client.syncing import carry_out, failures, plan_sync
from services.local.child import ChildStack

__all__ = ["EXAMPLES", "Turn", "ask", "at_once", "connect", "ingest", "ingest_banking", "ingest_examples"]

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "examples"
# As many as keep the engine's batches full without queueing.
_AT_ONCE: Final = 8

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer with the record of how it came about."""

    answer: Answer
    receipt: Mapping[str, Any]

    @property
    def retrieved(self) -> list[Mapping[str, Any]]:
        """Every passage that was retrieved, best first."""
        return list(self.receipt["sources"])


def connect(stack: ChildStack, subject: str, *, role: str = "viewer", groups: Sequence[str] = ()) -> Gateway:
    """Return a connection of a user of that name."""
    return Gateway(Connection(stack.base_url, stack.key(subject, role=role, groups=tuple(groups))))


def ask(
    gateway: Gateway,
    question: str,
    *,
    collections: Sequence[str] = (),
    history: Sequence[Mapping[str, str]] = (),
    documents: Sequence[Mapping[str, Any]] = (),
    grounding: str = "",
) -> Turn:
    """Ask greedily, and fetch the receipt."""
    answer = Answer()
    messages = [*history, {"role": "user", "content": question}]
    for chunk in gateway.ask(messages, collections=collections, documents=documents, grounding=grounding):
        answer.take(chunk)
    return Turn(answer, gateway.receipt(answer.receipt_id) if answer.receipt_id else {"sources": [], "citations": []})


def at_once(work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """Do the work for every item, several at a time; results come in the items' order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, items))


def ingest(
    gateway: Gateway,
    name: str,
    folder: Path,
    *,
    rule_of: Callable[[str], Mapping[str, Any]] = lambda _key: {"access": ["group:everyone"], "attributes": None},
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Make a collection equal to a folder.

    Args:
        gateway: The connection of whoever brings the documents.
        name: Of the collection.
        folder: The files.
        rule_of: Access list and attributes of a file, by its path within the folder.

    Returns:
        The collection's id, the document ids by key, and the reasons of failures by key.
    """
    collection = gateway.collection(name, create=True)
    carry_out(
        gateway,
        collection,
        folder,
        plan_sync(folder, gateway.manifest(collection)),
        keep_vanished=False,
        access_of=lambda key: list(rule_of(key)["access"]),
        attributes_of=lambda key: rule_of(key)["attributes"],
        on_step=lambda _key: None,
    )
    manifest = wait_until_final(gateway, collection, Console(quiet=True))
    return collection, {str(one["key"]): str(one["id"]) for one in manifest}, failures(manifest)


def ingest_examples(gateway: Gateway) -> tuple[str, dict[str, str], dict[str, str]]:
    """Ingest the example documents with the access lists and attributes of `collection.json`."""
    rules = json.loads((EXAMPLES / "collection.json").read_text())

    def rule_of(key: str) -> Mapping[str, Any]:
        return next(dict(rule) for rule in rules["rules"] if key.startswith(rule["prefix"]))

    return ingest(gateway, str(rules["name"]), EXAMPLES / "documents", rule_of=rule_of)


def ingest_banking(gateway: Gateway, folder: Path) -> tuple[str, dict[str, str], dict[str, str]]:
    """Ingest the documents of the data folder's `banking`, each a Markdown page under its title."""
    with tempfile.TemporaryDirectory() as made:
        for path in sorted((folder / "documents").glob("*.json")):
            document = json.loads(path.read_text())
            text = f"# {document['title']}\n\n{document['content']}\n"
            (Path(made) / f"{document['id']}.md").write_text(text)
        return ingest(gateway, "banking", Path(made))
