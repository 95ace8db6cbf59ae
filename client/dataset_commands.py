"""`brain dataset …`: training rows made from documents, judgements and files of other formats."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from client.place import AsJson, Collections, collection_ids, open_gateway, print_json
from client.tuning import Tuning
from client.tuning_rendering import facts, show_table

__all__ = ["dataset"]

dataset = typer.Typer(no_args_is_help=True, help="Make training rows from documents, judgements and files.")

_LOOK_EVERY_S = 0.5

Stay = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the rows are made.")]


@dataset.command()
def build(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="text, questions, raft, kto, preferences or prompts.")],
    name: Annotated[str, typer.Option(help="Name that people know it by.")] = "",
    collection: Collections = None,
    document: Annotated[list[str] | None, typer.Option(help="Only this document; may come again.")] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Most rows.")] = None,
    passages: Annotated[int | None, typer.Option(min=1, help="Passages in a reading row.")] = None,
    gold_share: Annotated[float | None, typer.Option(help="Share of reading rows with the gold passage.")] = None,
    unanswerable_share: Annotated[
        float | None, typer.Option(help="Share of reading rows whose answer is not there.")
    ] = None,
    phrasings: Annotated[int | None, typer.Option(min=1, help="Phrasings of each question.")] = None,
    held_out_share: Annotated[float | None, typer.Option(help="Share of clusters that are held out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    writer: Annotated[str, typer.Option(help="Model that writes questions and answers.")] = "",
    *,
    wait: Stay = True,
    as_json: AsJson = False,
) -> None:
    """Make rows from the documents of collections, or from what people said of answers."""
    with open_gateway(context) as gateway:
        body = {
            "name": name or kind,
            "kind": kind,
            "collections": collection_ids(gateway, collection),
            "documents": document,
            "max_rows": max_rows,
            "passages_per_row": passages,
            "gold_share": gold_share,
            "unanswerable_share": unanswerable_share,
            "phrasings": phrasings,
            "held_out_share": held_out_share,
            "seed": seed,
            "writer_model": writer,
        }
        made = _built(Tuning(gateway), body, wait=wait, console=Console(stderr=as_json))
    _end(made, as_json=as_json)


@dataset.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A file of this machine, or a file's id.")],
    name: Annotated[str, typer.Option(help="Name that people know it by.")] = "",
    form: Annotated[
        str,
        typer.Option("--format", help="openai_chat, openai_preference, alpaca, sharegpt or csv; looked up without."),
    ] = "",
    held_out_share: Annotated[float | None, typer.Option(help="Share of clusters that are held out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split.")] = None,
    *,
    wait: Stay = True,
    as_json: AsJson = False,
) -> None:
    """Make rows of a file in another format."""
    with open_gateway(context) as gateway:
        tuning = Tuning(gateway)
        body = {
            "name": name or file,
            "kind": "import",
            "file_id": tuning.training_file(file),
            "format": form,
            "held_out_share": held_out_share,
            "seed": seed,
        }
        made = _built(tuning, body, wait=wait, console=Console(stderr=as_json))
    _end(made, as_json=as_json)


def _built(tuning: Tuning, body: dict[str, Any], *, wait: bool, console: Console) -> dict[str, Any]:
    """Begin to make rows, and stay until they are made."""
    made = tuning.build({name: value for name, value in body.items() if value not in (None, "", [])})
    with console.status("making rows"):
        while wait and made["status"] == "building":
            time.sleep(_LOOK_EVERY_S)
            made = tuning.dataset(made["id"])
    return made


def _end(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        _show(Console(), made)
    raise typer.Exit(1 if made["status"] == "failed" else 0)


def _show(console: Console, one: dict[str, Any]) -> None:
    shown = (
        "name",
        "status",
        "error",
        "rows",
        "held_out_rows",
        "documents",
        "judgements",
        "training_file",
        "held_out_file",
    )
    facts(console, one["id"], {name: one[name] for name in shown} | {"spec": one["spec"]})
    if one["report"]:
        facts(console, "report", one["report"])


@dataset.command("list")
def list_datasets(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).datasets()
    if as_json:
        print_json(found)
        return
    rows = (
        (one["id"], one["name"], one["spec"]["kind"], one["status"], str(one["rows"]), str(one["held_out_rows"]))
        for one in found
    )
    show_table(Console(), ("id", "name", "kind", "status", "rows", "held out"), rows)


@dataset.command()
def show(context: typer.Context, dataset_id: str, *, as_json: AsJson = False) -> None:
    """Show a dataset with the report of its making."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).dataset(dataset_id)
    if as_json:
        print_json(found)
    else:
        _show(Console(), found)


@dataset.command()
def delete(context: typer.Context, dataset_id: str, *, as_json: AsJson = False) -> None:
    """Delete a dataset with its files."""
    with open_gateway(context) as gateway:
        gone = Tuning(gateway).delete_dataset(dataset_id)
    if as_json:
        print_json(gone)
    else:
        Console().print(Text(f"{dataset_id} is deleted"))
