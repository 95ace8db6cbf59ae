"""The verbs of human feedback: `brain feedback …` and `brain rank`."""

import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.prompt import Prompt
from rich.table import Column, Table
from rich.text import Text

from client.errors import UsageError
from client.gateway import Gateway
from client.place import COLLECTION, AsJson, Collections, collection_ids, open_gateway, print_json
from client.rendering import add_row

__all__ = ["feedback", "rank"]

feedback = typer.Typer(no_args_is_help=True, help="Say what you think of answers, and read what others said.")

_LABELS = string.ascii_uppercase
# As many open comparisons as one sitting takes at most.
_SITTING = 100
Collection = Annotated[str, COLLECTION]
Receipt = Annotated[str, typer.Argument(help="Receipt of the answer, as `brain ask` prints it.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="thumb_up, thumb_down, edit or ranking.")]
Model = Annotated[str, typer.Option(help="Who answered, or was asked for.")]
Rater = Annotated[str, typer.Option(help="user:NAME.")]
Since = Annotated[str, typer.Option(help="Time, e.g. 2026-11-01 or 2026-11-01T09:00:00Z.")]


@feedback.command()
def up(context: typer.Context, receipt: Receipt, comment: Comment = "", *, as_json: AsJson = False) -> None:
    """Thumbs up."""
    _give(context, {"receipt_id": receipt, "thumb": "up", "comment": comment}, as_json=as_json)


@feedback.command()
def down(context: typer.Context, receipt: Receipt, comment: Comment = "", *, as_json: AsJson = False) -> None:
    """Thumbs down."""
    _give(context, {"receipt_id": receipt, "thumb": "down", "comment": comment}, as_json=as_json)


@feedback.command()
def edit(
    context: typer.Context,
    receipt: Receipt,
    text: Annotated[str, typer.Argument(help="The better answer; without it, what is typed or piped in.")] = "",
    comment: Comment = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Write a better answer."""
    if not text:
        if sys.stdin.isatty():
            with open_gateway(context) as gateway:
                answer = gateway.receipt(receipt)["answer"]
            Console().print(Text(f"{answer}\n"), Text("Write a better one, and end it with Ctrl-D:", style="dim"))
        text = sys.stdin.read()
    _give(context, {"receipt_id": receipt, "edited": text, "comment": comment}, as_json=as_json)


def _give(context: typer.Context, body: Mapping[str, str], *, as_json: bool) -> None:
    with open_gateway(context) as gateway:
        kept = gateway.send("POST", "/brain/v1/feedback", body=body)
    _say_kept(kept, as_json=as_json)


def _say_kept(kept: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(kept)
    else:
        instead = f", instead of {kept['replaced']}" if kept["replaced"] else ""
        Console().print(Text(f"{kept['id']}: {kept['kind']}{instead}"))


@feedback.command("list")
def list_all(
    context: typer.Context,
    kind: Kinds = None,
    collection: Collection = "",
    model: Model = "",
    rater: Rater = "",
    since: Since = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List judgements, newest first: your own, or as a curator all."""
    with open_gateway(context) as gateway:
        query = [("kind", one) for one in kind or ()]
        query += _named(gateway, collection=collection, model=model, rater=rater, since=since).items()
        query.append(("limit", str(min(limit, 100))))
        found = list(gateway.pages("/brain/v1/feedback", query, most=limit))
    if as_json:
        print_json(found)
        return
    # Ids are shown whole, to be copied into the next command: lines may grow wider than the terminal.
    identity = Column("id", min_width=max((len(one["id"]) for one in found), default=0))
    table = Table(identity, "kind", "rater", "model", "question", "said")
    for one in found:
        said = one["edited"] or one["comment"] or ""
        shown = str(one["question"]) if one["available"] else "(not yours to read)"
        add_row(table, one["id"], one["kind"], one["rater"], one["model"] or "", _short(shown), _short(said))
    Console().print(table, crop=False)


@feedback.command()
def withdraw(
    context: typer.Context, identity: Annotated[str, typer.Argument(metavar="FEEDBACK")], *, as_json: AsJson = False
) -> None:
    """Take a judgement back."""
    with open_gateway(context) as gateway:
        gone = gateway.send("DELETE", f"/brain/v1/feedback/{identity}")
    if as_json:
        print_json(gone)
    else:
        Console().print(Text(f"{identity} is gone."))


@feedback.command()
def export(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="File; else stdout.")] = None,
    kind: Kinds = None,
    collection: Collection = "",
    model: Model = "",
    rater: Rater = "",
    since: Since = "",
) -> None:
    """Write judgements as training rows: preferences from edits and rankings, good and bad answers from thumbs."""
    with open_gateway(context) as gateway:
        body: dict[str, Any] = dict(_named(gateway, collection=collection, model=model, rater=rater, since=since))
        body["kind"] = kind or []
        with gateway.stream("POST", "/brain/v1/feedback/export", body=body) as answer:
            rows = _write(answer.lines, output)
    unreadable = answer.headers.get("x-brain-unreadable", "0")
    Console(stderr=True).print(
        Text(f"{rows} rows from {answer.headers.get('x-brain-judgements', '?')} judgements; ")
        + Text(f"{unreadable} left out, whose documents are gone or not yours to read.")
    )


def _write(lines: Iterator[str], output: Path | None) -> int:
    """Write lines and return how many; a file is there when it is whole."""
    if output is None:
        return sum(1 for line in lines if sys.stdout.write(f"{line}\n"))
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            rows = sum(1 for line in lines if file.write(f"{line}\n"))
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return rows


@feedback.command()
def agreement(
    context: typer.Context,
    collection: Collection = "",
    since: Since = "",
    until: Since = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say how far raters agree (Krippendorff's alpha)."""
    with open_gateway(context) as gateway:
        query = _named(gateway, collection=collection, since=since, until=until)
        found = gateway.send("GET", "/brain/v1/agreement", params=[*query.items()])
    if as_json:
        print_json(found)
        return
    table = Table("on", "level", "alpha", "95 % interval", "raters", "units", "pairable", "all")
    for name in ("thumbs", "rankings"):
        one = found[name]
        alpha = f"{one['alpha']:.3f}" if one["alpha"] is not None else one["status"].replace("_", " ")
        interval = " to ".join(f"{end:.3f}" for end in one["interval"]) if one["interval"] else ""
        counts = [str(one[count]) for count in ("raters", "units", "pairable_values", "values")]
        add_row(table, name, one["level"], alpha, interval, *counts)
    Console().print(table)


def rank(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="Samples answers to it; without one, what waits is ranked.")] = "",
    collection: Collections = None,
    comparison: Annotated[str, typer.Option(help="Rank this one.")] = "",
    answers: Annotated[int, typer.Option(min=2, max=4, help="Answers to sample.")] = 2,
    model: Annotated[list[str] | None, typer.Option(help="Model to sample from; may be given again.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.01, max=2, help="How much answers vary.")] = None,
    rater: Annotated[list[str] | None, typer.Option(help="Who may rank beside you: user:NAME, group:NAME.")] = None,
    order: Annotated[str, typer.Option(help='Best first, as labelled, equal ones joined: "B A=C".')] = "",
    comment: Comment = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Rank sampled answers, without knowing who gave them; for scripts with --json, and --order to answer with."""
    if question and comparison:
        raise UsageError("Give a question or --comparison, one of the two.")
    console = Console(stderr=as_json)
    with open_gateway(context) as gateway:
        if question:
            body = {
                "question": question,
                "collections": collection_ids(gateway, collection),
                "answers": answers,
                "models": model or [],
                "temperature": temperature,
                "raters": rater or [],
            }
            waiting = [gateway.send("POST", "/brain/v1/comparisons", body=body)]
        elif comparison:
            waiting = [gateway.send("GET", f"/brain/v1/comparisons/{comparison}")]
        else:
            query = [
                ("limit", str(_SITTING)),
                *(("collection", one) for one in collection_ids(gateway, collection)[:1]),
            ]
            waiting = list(gateway.pages("/brain/v1/comparisons", query, most=_SITTING))
        if order and len(waiting) != 1:
            raise UsageError(f"--order ranks one comparison; {len(waiting)} wait: choose with --comparison.")
        if as_json and not order:
            print_json([_labelled(one) for one in waiting])
            return
        if not waiting:
            console.print("Nothing waits to be ranked.")
        for one in waiting:
            _rank_one(gateway, console, one, order=order, comment=comment, as_json=as_json)


def _rank_one(
    gateway: Gateway, console: Console, one: Mapping[str, Any], *, order: str, comment: str, as_json: bool
) -> None:
    if order:
        ranks = _ranks(order, one["answers"])
    else:
        _show(console, one)
        asked = _ask(console, one["answers"])
        if asked is None:
            return
        ranks = asked
    path = f"/brain/v1/comparisons/{one['id']}/rank"
    _say_kept(gateway.send("POST", path, body={"ranks": ranks, "comment": comment}), as_json=as_json)


def _ask(console: Console, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Ask until an order is given that names each answer; None to pass over."""
    labels = " ".join(_LABELS[: len(answers)])
    while True:
        try:
            given = Prompt.ask(
                f"Best first, equal ones joined by = ({labels}; empty passes over)",
                console=console,
                default="",
                show_default=False,
            )
        except EOFError:
            return None
        if not given.strip():
            return None
        try:
            return _ranks(given, answers)
        except UsageError as error:
            console.print(Text(str(error), style="red"))


def _ranks(order: str, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rank of each answer from labels, best first: `B A=C` (`>` and commas part as spaces do).

    Raises:
        UsageError: An answer is missing, named twice, or not there.
    """
    labels = _LABELS[: len(answers)]
    tied = order.upper().replace(">", " ").replace(",", " ").replace(" =", "=").replace("= ", "=").split()
    groups = [group.split("=") for group in tied]
    named = [label for group in groups for label in group]
    if sorted(named) != list(labels):
        raise UsageError(
            f"order: {order!r} is not allowed; name each of {', '.join(labels)} once, e.g. {_example(labels)}."
        )
    return [
        {"answer_id": answers[labels.index(label)]["id"], "rank": place}
        for place, group in enumerate(groups, start=1)
        for label in group
    ]


def _example(labels: str) -> str:
    return f'"{labels[1]} {"=".join(labels[:1] + labels[2:])}"'


def _labelled(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison for a program: with the labels that --order takes."""
    answers = [{"label": label} | dict(answer) for label, answer in zip(_LABELS, one["answers"], strict=False)]
    return dict(one) | {"answers": answers}


def _show(console: Console, one: Mapping[str, Any]) -> None:
    """Print the conversation, and the answers side by side."""
    for turn in one["messages"]:
        console.print(Text.assemble((f"{turn['role']}: ", "bold"), str(turn["content"])))
    width = max(24, console.width // len(one["answers"]) - 1)
    console.print(
        Columns(
            [
                Panel(Text(str(answer["text"])), title=label, width=width)
                for label, answer in zip(_LABELS, one["answers"], strict=False)
            ]
        )
    )


def _named(gateway: Gateway, *, collection: str = "", **values: str) -> dict[str, str]:
    """Return the given parts of a filter; a collection may come by name."""
    given = values | {"collection": gateway.collection(collection) if collection else ""}
    return {name: value for name, value in given.items() if value}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
