"""`brain adapters …`, `brain promote`, `brain rollback`, `brain aliases`: what was trained, and who is led to it."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from client.place import AsJson, open_gateway, print_json
from client.tuning import Tuning
from client.tuning_rendering import facts, show_table

__all__ = ["adapters", "aliases", "promote", "rollback"]

adapters = typer.Typer(no_args_is_help=True, help="Look into, block, accept, retrain and delete adapters.")


@adapters.command("list")
def list_adapters(
    context: typer.Context,
    document: Annotated[str, typer.Option(help="Only those that saw this document.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List adapters, newest first."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).adapters(document=document)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            one["name"],
            str(one["version"]),
            one["state"] + (f" ({one['reason']})" if one["reason"] else ""),
            str(one["rank"]),
            one["parent"] or one["base_model"],
            ", ".join(one["aliases"]),
            ", ".join(one["access"]),
        )
        for one in found
    )
    show_table(Console(), ("name", "version", "state", "rank", "from", "aliases", "access"), rows)


@adapters.command()
def show(context: typer.Context, name: str, *, as_json: AsJson = False) -> None:
    """Show an adapter with what it learned from."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).adapter(name)
    if as_json:
        print_json(found)
        return
    console = Console()
    facts(console, name, {key: value for key, value in found.items() if key not in {"name", "sources"}})
    rows = (
        (one["id"], one["kind"], str(one["version"] or ""), str(one["rows"]), "withdrawn" if one["withdrawn"] else "")
        for one in found.get("sources", ())
    )
    show_table(console, ("source", "kind", "version", "rows", ""), rows)


@adapters.command()
def block(
    context: typer.Context,
    name: str,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Refuse an adapter to everybody, at once."""
    _judged(context, name, "block", reason, as_json=as_json)


@adapters.command()
def accept(
    context: typer.Context,
    name: str,
    reason: Annotated[str, typer.Option(help="Why that is right; recorded.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Serve a blocked adapter again."""
    _judged(context, name, "accept", reason, as_json=as_json)


def _judged(context: typer.Context, name: str, verb: str, reason: str, *, as_json: bool) -> None:
    with open_gateway(context) as gateway:
        changed = Tuning(gateway).judge_adapter(name, verb, reason)
    if as_json:
        print_json(changed)
    else:
        Console().print(Text(f"{changed['name']} is {changed['state']}"))


@adapters.command()
def retrain(context: typer.Context, name: str, *, as_json: AsJson = False) -> None:
    """Train an adapter's whole chain again on the rows that remain."""
    with open_gateway(context) as gateway:
        again = Tuning(gateway).retrain(name)
    if as_json:
        print_json(again)
        return
    console = Console()
    console.print(Text(f"{again['rows_left_out']} rows are left out"))
    for job in again["jobs"]:
        console.print(Text(f"brain tune watch {job}"))


@adapters.command("import")
def import_adapter(
    context: typer.Context,
    archive: Annotated[
        str, typer.Argument(help="ZIP or tar with adapter_config.json and the weights, or a file's id.")
    ],
    suffix: Annotated[str, typer.Option(help="Last part of its name.")],
    access: Annotated[list[str] | None, typer.Option(help="Principal who may ask it; its owner alone without.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Publish an adapter that was trained elsewhere."""
    with open_gateway(context) as gateway:
        tuning = Tuning(gateway)
        made = tuning.import_adapter(tuning.training_file(archive), suffix=suffix, access=access or [])
    if as_json:
        print_json(made)
    else:
        Console().print(Text(f"{made['name']} is {made['state']}"))


@adapters.command()
def delete(context: typer.Context, name: str, *, as_json: AsJson = False) -> None:
    """Delete an adapter with its files."""
    with open_gateway(context) as gateway:
        gone = Tuning(gateway).delete_adapter(name)
    if as_json:
        print_json(gone)
    else:
        Console().print(Text(f"{name} is deleted"))


def promote(
    context: typer.Context,
    alias: str,
    adapter: str,
    canary: Annotated[float | None, typer.Option(help="Share of callers that it answers while it is tried.")] = None,
    min_judgements: Annotated[int | None, typer.Option(min=1, help="Judged answers that are enough.")] = None,
    skip_gate: Annotated[
        str, typer.Option(metavar="REASON", help="Skip the offline gate; the reason is recorded.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Lead an alias to an adapter: gate, trial, check, then all at once or back."""
    body = {
        "alias": alias,
        "candidate": adapter,
        "canary_weight": canary,
        "min_judgements": min_judgements,
        "skip_gate_reason": skip_gate,
    }
    with open_gateway(context) as gateway:
        opened = Tuning(gateway).promote({name: value for name, value in body.items() if value not in (None, "")})
    _show_promotion(opened, as_json=as_json)


def rollback(
    context: typer.Context,
    alias: str,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """End an alias's open promotion, or lead it back to where it led before."""
    with open_gateway(context) as gateway:
        ended = Tuning(gateway).rollback(alias, reason)
    _show_promotion(ended, as_json=as_json)


def _show_promotion(one: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    console = Console()
    before = f" from {one['previous']}" if one["previous"] else ""
    console.print(Text(f"{one['id']} {one['state']}: {one['alias']}{before} to {one['candidate']}"), soft_wrap=True)
    rows = ((step["at"], step["state"], step["reason"], step["by"] or "") for step in one["history"])
    show_table(console, ("when", "state", "why", "by"), rows)


def aliases(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the aliases and where they lead."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).aliases()
    if as_json:
        print_json(found)
        return
    rows = (
        (
            one["alias"],
            one["target"],
            f"{one['canary']} ({one['canary_weight']:.0%})" if one["canary"] else "",
            one["moved_at"],
        )
        for one in found
    )
    show_table(Console(), ("alias", "leads to", "on trial", "moved"), rows)
