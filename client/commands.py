"""The verbs of the `brain` command."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.prompt import Prompt
from rich.table import Column, Table
from rich.text import Text

from client.adapter_commands import adapters, aliases, promote, rollback
from client.dataset_commands import dataset
from client.errors import EXIT_STATUS, NOT_ANSWERED, NotFoundError, UnreachableError, UsageError
from client.feedback_commands import feedback, rank
from client.gateway import Gateway
from client.moving_commands import export_all, import_all
from client.place import COLLECTION, AsJson, Collections, Place, collection_ids, open_gateway, print_json, progress
from client.rendering import (
    Answer,
    add_row,
    show_deletion,
    show_passages,
    show_reach,
    show_receipt,
    show_status,
    stream_answer,
)
from client.settings import remembered
from client.syncing import carry_out, failures, plan_sync, unfinished
from client.tune_commands import tune
from client.webhook_commands import webhooks

__all__ = ["app", "progress", "wait_until_final"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Ask the corporate brain, feed it, and tune it.")
app.add_typer(tune, name="tune")
app.add_typer(dataset, name="dataset")
app.add_typer(adapters, name="adapters")
app.add_typer(webhooks, name="webhooks")
for verb in (promote, rollback, aliases):
    app.command()(verb)
app.command("export")(export_all)
app.command("import")(import_all)
app.add_typer(feedback, name="feedback")
app.command()(rank)

Collection = Annotated[str, COLLECTION]


@app.callback()
def place(
    context: typer.Context,
    url: Annotated[str, typer.Option("--url", envvar="BRAIN_URL", help="Address of the gateway.")] = "",
    key: Annotated[str, typer.Option("--key", envvar="BRAIN_API_KEY", help="API key.")] = "",
    state_dir: Annotated[Path, typer.Option("--state-dir", help="Folder of a stack on this machine.")] = Path(
        ".brain/state"
    ),
) -> None:
    """Remember where the gateway is."""
    # Whoever calls the command from a program may hand in what replaces the network.
    transport = context.obj if isinstance(context.obj, httpx.BaseTransport) else None
    context.obj = Place(url, key, state_dir, transport)


def _collection(given: str) -> str:
    """Return the collection that is meant.

    Raises:
        UsageError: None is given, here or in `.brain/client.json`.
    """
    if found := given or remembered("collection"):
        return found
    raise UsageError("No collection is given (--collection, BRAIN_COLLECTION, or collection in .brain/client.json).")


@app.command()
def up(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1.")] = 8080,
    engine: Annotated[str, typer.Option(help="vllm:// or scripted://?mode=…")] = "",
) -> None:
    """Start the whole stack on this machine and stay until Ctrl-C."""
    where: Place = context.obj
    command = [sys.executable, "-m", "services.local", "--state-dir", str(where.state_dir), "--port", str(port)]
    os.execv(sys.executable, command + (["--engine", engine] if engine else []))  # noqa: S606  our own interpreter


@app.command()
def status(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the rooms' health; exit status 5 when a room is not ready."""
    with open_gateway(context) as gateway:
        state = gateway.status()
    if as_json:
        print_json(state)
    else:
        show_status(Console(), state)
    raise typer.Exit(0 if state["status"] == "ready" else EXIT_STATUS[UnreachableError])


@app.command()
def sync(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder to make the collection equal to.")
    ],
    collection: Collection = "",
    access: Annotated[list[str] | None, typer.Option(help="Principal who may read new files, e.g. group:hr.")] = None,
    *,
    keep_vanished: Annotated[bool, typer.Option(help="Do not delete documents whose file is gone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload new and changed files of a folder, delete vanished ones, and wait until all are searchable."""
    console = Console(stderr=as_json)
    with open_gateway(context) as gateway:
        collection_id = gateway.collection(_collection(collection), create=True)
        plan = plan_sync(folder, gateway.manifest(collection_id))
        refused: dict[str, str] = {}
        steps = len(plan.uploads) + (0 if keep_vanished else len(plan.vanished))
        with progress(console) as bar:
            task = bar.add_task("uploading", total=steps)
            carry_out(
                gateway,
                collection_id,
                folder,
                plan,
                keep_vanished=keep_vanished,
                access_of=lambda _key: access,
                attributes_of=lambda _key: None,
                on_step=lambda _key: bar.advance(task),
                on_refused=refused.__setitem__,
            )
        manifest = wait_until_final(gateway, collection_id, console)
    failed = failures(manifest) | refused
    result = {
        "collection": collection_id,
        "new": len(plan.new),
        "changed": len(plan.changed),
        "vanished": 0 if keep_vanished else len(plan.vanished),
        "unchanged": plan.unchanged,
        "failed": failed,
    }
    if as_json:
        print_json(result)
    else:
        console.print({name: value for name, value in result.items() if name != "failed"})
        for key, reason in failed.items():
            console.print(Text.assemble((key, "red"), f": {reason}"))
    raise typer.Exit(1 if failed else 0)


def wait_until_final(gateway: Gateway, collection_id: str, console: Console) -> list[dict[str, Any]]:
    """Wait with a bar until every document is searchable or failed; return the manifest."""
    with progress(console) as bar:
        task = bar.add_task("indexing", total=None)
        while True:
            manifest = gateway.manifest(collection_id)
            left = unfinished(manifest)
            bar.update(task, total=len(manifest), completed=len(manifest) - left)
            if left == 0:
                return manifest
            time.sleep(0.3)


@app.command()
def upload(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    collection: Collection = "",
    key: Annotated[str, typer.Option("--as", help="Key of the document; the same key is a new version.")] = "",
    access: Annotated[list[str] | None, typer.Option(help="Principal who may read it.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Put one file into a collection and wait until it is searchable."""
    console = Console(stderr=as_json)
    with open_gateway(context) as gateway:
        collection_id = gateway.collection(_collection(collection), create=True)
        document, _ = gateway.upload(collection_id, file, key=key or file.name, access=access)
        wait_until_final(gateway, collection_id, console)
        document = gateway.document(document["id"])
    if as_json:
        print_json(document)
    else:
        console.print(f"{document['id']} version {document['version']}: {document['state']}")
    raise typer.Exit(0 if document["state"] == "indexed" else 1)


@app.command()
def documents(context: typer.Context, collection: Collection = "", name: str = "", *, as_json: AsJson = False) -> None:
    """List the documents of a collection."""
    with open_gateway(context) as gateway:
        found = gateway.documents(gateway.collection(_collection(collection)), name=name)
    if as_json:
        print_json(found)
        return
    # Ids are shown whole, to be copied into the next command: lines may grow wider than the terminal.
    identity = Column("id", min_width=max((len(one["id"]) for one in found), default=0))
    table = Table(identity, "file", "version", "state", "chunks", "access")
    for one in found:
        reason = f" ({one['failure']['reason']})" if one["failure"] else ""
        add_row(
            table,
            one["id"],
            one["filename"],
            str(one["version"]),
            one["state"] + reason,
            str(one["chunks"]),
            ", ".join(one["access"]),
        )
    Console().print(table, crop=False)


@app.command()
def ask(
    context: typer.Context,
    question: str,
    collection: Collections = None,
    model: Annotated[str, typer.Option(help="Model or adapter.")] = "default",
    *,
    as_json: AsJson = False,
) -> None:
    """Ask one question; exit status 3 when the documents do not answer it."""
    with open_gateway(context) as gateway:
        collections = collection_ids(gateway, collection)
        chunks = gateway.ask([{"role": "user", "content": question}], collections=collections, model=model)
        if as_json:
            answer = Answer()
            for chunk in chunks:
                answer.take(chunk)
            print_json(answer.as_json())
        else:
            answer = stream_answer(Console(), chunks)
            if answer.receipt_id:
                Console().print(Text(f"receipt {answer.receipt_id}", style="dim"))
    raise typer.Exit(NOT_ANSWERED if answer.abstained else 0)


@app.command()
def chat(
    context: typer.Context,
    collection: Collections = None,
    model: Annotated[str, typer.Option(help="Model or adapter.")] = "default",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each line read.")] = False,
) -> None:
    """Talk; an empty line or the end of the input ends it."""
    console = Console(quiet=as_json)
    messages: list[Mapping[str, str]] = []
    with open_gateway(context) as gateway:
        collections = collection_ids(gateway, collection)
        while question := _next_question(console):
            messages.append({"role": "user", "content": question})
            answer = stream_answer(console, gateway.ask(messages, collections=collections, model=model))
            messages.append({"role": "assistant", "content": answer.text})
            if as_json:
                sys.stdout.write(json.dumps(answer.as_json(), ensure_ascii=False) + "\n")
                sys.stdout.flush()


def _next_question(console: Console) -> str:
    if console.quiet:
        return sys.stdin.readline().strip()
    try:
        return Prompt.ask("[bold]you", console=console, default="", show_default=False)
    except EOFError:
        return ""


@app.command()
def search(
    context: typer.Context,
    query: str,
    collection: Collection = "",
    limit: Annotated[int, typer.Option(min=1, max=50)] = 5,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the passages for a query with their scores."""
    with open_gateway(context) as gateway:
        found = gateway.search([gateway.collection(_collection(collection))], query, limit=limit)
    if as_json:
        print_json(found)
    else:
        show_passages(Console(), found)


@app.command()
def explain(
    context: typer.Context,
    document: Annotated[str, typer.Argument(help="Id or name of the document that was missed.")],
    question: Annotated[str, typer.Option(help="The question.")] = "",
    collection: Collections = None,
    receipt_id: Annotated[str, typer.Option("--receipt", help="Receipt of the answer that missed it.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say why an answer did not use a document."""
    if not question and not receipt_id:
        raise UsageError("Give --question, or --receipt of the answer that missed the document.")
    with open_gateway(context) as gateway:
        collections = collection_ids(gateway, collection)
        body = {"document": document, "question": question, "collections": collections, "receipt_id": receipt_id}
        why = gateway.explain({name: value for name, value in body.items() if value})
    if as_json:
        print_json(why)
    else:
        Console().print(Text.assemble((why["verdict"], "bold"), f": {why['explanation']}"))


@app.command()
def receipt(
    context: typer.Context,
    receipt_id: str,
    *,
    replay: Annotated[bool, typer.Option(help="Ask the same again and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how an answer came about."""
    with open_gateway(context) as gateway:
        found = gateway.receipt(receipt_id)
        again = gateway.replay(receipt_id) if replay else None
    if as_json:
        print_json(found | ({"replay": again} if again else {}))
        return
    show_receipt(Console(), found)
    if again:
        prompt = "same prompt" if again["same_prompt"] else f"another prompt ({again['difference']})"
        answer = "same answer" if again["same_answer"] else f"another answer: {again['answer']}"
        Console().print(Text(f"replay: {prompt}, {answer}"))


@app.command()
def access(
    context: typer.Context,
    document: str,
    principals: Annotated[
        list[str] | None, typer.Argument(help="user:NAME, group:NAME; none: the owner alone.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Replace a document's access list."""
    with open_gateway(context) as gateway:
        changed = gateway.set_access(document, principals or [])
    if as_json:
        print_json(changed)
    else:
        console = Console()
        console.print(Text(f"{changed['id']} may be read by: {', '.join(changed['access']) or 'its owner alone'}"))
        show_reach(console, changed["adapters"])


@app.command()
def delete(context: typer.Context, document: str, *, as_json: AsJson = False) -> None:
    """Delete a document and wait until every store has been counted to zero."""
    if not document.startswith("doc_"):
        raise NotFoundError(f"{document!r} is no document id; `brain documents` lists them.")
    with open_gateway(context) as gateway:
        deletion = gateway.delete(document)
        # What the deletion reached is said once, before anything is counted.
        reached = {"adapters": deletion["adapters"]}
        while deletion["state"] != "deleted":
            time.sleep(0.2)
            deletion = gateway.deletion(document) | reached
    if as_json:
        print_json(deletion)
    else:
        show_deletion(Console(), deletion)
