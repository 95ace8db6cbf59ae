"""Jobs, reports, datasets, adapters and promotions as a person reads them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from client.rendering import add_row

__all__ = ["Watch", "facts", "finish", "notes", "show_jobs", "show_report", "show_table"]

_STYLES: Final = {"error": "red", "warning": "yellow", "info": "dim"}
# Line numbers shown of one finding; the report holds all of them.
_SHOWN_LINES: Final = 12
# What stands in its own column.
_LINE: Final = re.compile(r"^line \d+, ")


def show_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is shown in one piece, to be copied into the next command; nothing is cut off."""
    rows = list(rows)
    first = Column(columns[0], min_width=max((len(row[0]) for row in rows), default=0))
    table = Table(first, *(Column(name, overflow="fold") for name in columns[1:]))
    for row in rows:
        add_row(table, *row)
    console.print(table, crop=False)


def facts(console: Console, title: str, values: Mapping[str, Any]) -> None:
    """Print names and values; what is not there is left out."""
    grid = Table.grid(padding=(0, 2))
    for name, value in values.items():
        if value not in (None, "", [], {}):
            grid.add_row(Text(name.replace("_", " "), style="dim"), Text(_words(value)))
    console.print(Text(title, style="bold"))
    console.print(grid)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items() if inner not in (None, "", [], {}))
    if isinstance(value, list):
        return ", ".join(_words(inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def notes(given: Iterable[str]) -> dict[str, str]:
    """Return `KEY=VALUE` pairs; one without a value is an empty one."""
    return {key: value for key, _, value in (pair.partition("=") for pair in given)}


def lines(numbers: Sequence[int]) -> str:
    """Return line numbers with stretches drawn together: 3, 4, 5 and 9 are two."""
    stretches: list[list[int]] = []
    for number in sorted(set(numbers)):
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    shown = [str(low) if low == high else f"{low}–{high}" for low, high in stretches[:_SHOWN_LINES]]
    return ", ".join(shown) + (" …" if len(stretches) > _SHOWN_LINES else "")


def show_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print a pre-flight: what was found wrong, what the rows are like, what training would take, and the verdict."""
    findings = report["findings"]
    if findings:
        table = Table("severity", "finding", "lines", "what")
        for finding in _alike(findings):
            severity = str(finding["severity"])
            table.add_row(
                Text(severity, style=_STYLES.get(severity, "")),
                Text(str(finding["code"])),
                Text(_where(finding)),
                Text(str(finding["message"])),
            )
        console.print(table)
    checked = {name: value for name, value in report.items() if name != "trainable"}
    plain = {name: value for name, value in checked.items() if not isinstance(value, Mapping | list)}
    facts(console, "checked", plain)
    for name, value in checked.items():
        if isinstance(value, Mapping) and value:
            facts(console, name, value)
    if report["trainable"]:
        console.print(Text("This job can be trained.", style="green"))
    else:
        console.print(Text("This job cannot be trained as it is.", style="red"))


def _alike(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return findings with faults that many lines share drawn together: a file in another format has one in each."""
    together: dict[tuple[str, str, str], dict[str, Any]] = {}
    for finding in findings:
        said = _LINE.sub("", str(finding["message"]))
        alike = together.setdefault(
            (str(finding["severity"]), str(finding["code"]), said), dict(finding) | {"lines": [], "message": said}
        )
        alike["lines"] = [*alike["lines"], *finding["lines"]]
    return list(together.values())


def _where(finding: Mapping[str, Any]) -> str:
    """Return the lines of a finding; the report names the first ones, and counts all."""
    named = finding["lines"]
    count = int(finding["numbers"].get("rows", 0))
    return lines(named) + (f" ({count} rows)" if count > len(named) else "")


def show_jobs(console: Console, jobs: Iterable[Mapping[str, Any]]) -> None:
    """Print a list of jobs."""
    show_table(
        console,
        ("id", "status", "stage", "step", "model", "adapter", "created"),
        (
            (
                str(job["id"]),
                str(job["status"]),
                str(job["brain"]["stage"]),
                _steps(job["brain"]),
                str(job["model"]),
                str(job["fine_tuned_model"] or ""),
                _moment(job["created_at"]),
            )
            for job in jobs
        ),
    )


def _steps(ours: Mapping[str, Any]) -> str:
    return f"{ours['step']}/{ours['total_steps']}" if ours["total_steps"] else str(ours["step"] or "")


def _moment(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Watch:
    """A bar for a job that is trained: steps, loss, speed, the estimated end, the place in the queue.

    Args:
        console: Where it is drawn.
    """

    def __init__(self, console: Console) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
        )
        self._task: TaskID = self.bar.add_task("waiting", total=None, told="")

    def see(self, job: Mapping[str, Any]) -> None:
        """Draw the job as it is now."""
        ours = job["brain"]
        self.bar.update(
            self._task,
            description=str(job["status"]).replace("_", " "),
            total=ours["total_steps"],
            completed=ours["step"],
            told=", ".join(_told(job)),
        )


def _told(job: Mapping[str, Any]) -> Iterable[str]:
    """Say what a reader of the bar wants to know beside the steps."""
    ours = job["brain"]
    metrics = ours["metrics"]
    if ours["queue_position"]:
        yield f"{ours['queue_position']} before it"
    if (loss := metrics.get("train_loss")) is not None:
        yield f"loss {loss:.4f}"
    if (valid := metrics.get("valid_loss")) is not None:
        yield f"validation {valid:.4f}"
    if (speed := metrics.get("tokens_per_s")) is not None:
        yield f"{speed:,.0f} tokens/s"
    if job["estimated_finish"]:
        yield f"ends about {_moment(job['estimated_finish'])[-8:]}"


def finish(console: Console, job: Mapping[str, Any]) -> None:
    """Print how a job ended, or why it stands still."""
    ours, error = job["brain"], job["error"] or {}
    match job["status"]:
        case "succeeded":
            told = f"{job['fine_tuned_model'] or 'the model'} after {ours['step']} steps and {job['trained_tokens']} tokens"
        case "failed":
            told = f"{error.get('code')}: {error.get('message')}"
        case "paused":
            told = f"after {ours['step']} steps; go on with: brain tune resume {job['id']}"
        case _:
            told = f"after {ours['step']} steps"
    style = "green" if job["status"] == "succeeded" else "red" if job["status"] == "failed" else "yellow"
    console.print(Text.assemble((f"{job['id']} {job['status']}", style), f": {told}"))
