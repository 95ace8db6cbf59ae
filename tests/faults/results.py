"""What the fault tests measured: a line for each row of the fault table, merged into one record and one page.

A test that held calls `record`; where the lines go, the variable says. Lines of other runs replace those of the same row, on
the same back ends, at the same size; the rest stays.
"""

import json
import os
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._result import RESULTS, machine
from tests.cluster_servers import VARIABLE as CLUSTER
from tests.faults.sizes import chosen_size

__all__ = ["PAGE", "RECORD", "VARIABLE", "Entry", "merge", "over", "record", "render"]

VARIABLE = "BRAIN_FAULTS_RESULTS"
_ROOT = Path(__file__).resolve().parents[2]
RECORD = RESULTS / "faults.json"
PAGE = _ROOT / "docs" / "faults.md"

_TABLE = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- end of results -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row that held.

    Attributes:
        row: Of the fault table, in few words.
        back_ends: `embedded` or `cluster`.
        size: `ci` or `release`.
        held: What was asserted.
        figures: What was measured, by name; the unit ends the name (`recovery_max_s`).
        commit: Of the checkout; `-dirty` when it held more than that.
        date: Day of the run, UTC.
        machine: Where it ran.
    """

    row: str
    back_ends: str
    size: str
    held: str
    figures: dict[str, float | str]
    commit: str
    date: str
    machine: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later run of the same replaces."""
        return self.row, self.back_ends, self.size


def record(row: str, *, held: str, **figures: float | str) -> None:
    """Add a line to the file that `BRAIN_FAULTS_RESULTS` names; nothing where it names none.

    Called at the end of a test, when everything has been asserted.

    Args:
        row: Of the fault table, in few words: `rooms killed while ingesting`.
        held: What was asserted, in few words: `lost 0, doubled 0`.
        figures: What was measured; the unit ends the name. `over` makes some of several times.
    """
    if not (file := os.environ.get(VARIABLE)):
        return
    entry = Entry(
        row=row,
        back_ends="cluster" if os.environ.get(CLUSTER) else "embedded",
        size=chosen_size(),
        held=held,
        figures={name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()},
        commit=_commit(),
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
    )
    with Path(file).open("a") as lines:
        lines.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def over(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return the figures of several times: their median and the longest.

    Raises:
        StatisticsError: There are none.
    """
    return {f"{name}_p50_s": statistics.median(seconds), f"{name}_max_s": max(seconds)}


def merge(lines: Iterable[str], *, into: Path = RECORD, page: Path = PAGE) -> list[Entry]:
    """Replace what was measured again, in the record and in the table of the page; return what the record holds."""
    known = json.loads(into.read_text())["rows"] if into.exists() else []
    entries = {entry.key: entry for entry in (Entry(**row) for row in [*known, *map(json.loads, lines)])}
    rows = [entries[key] for key in sorted(entries)]
    # A line each, so that rows that were measured beside each other merge.
    body = ",\n".join(f"    {json.dumps(asdict(entry), ensure_ascii=False)}" for entry in rows)
    into.write_text(
        f'{{\n  "name": "faults",\n  "command": "make test-faults-release",\n  "rows": [\n{body}\n  ]\n}}\n'
    )
    page.write_text(_TABLE.sub(lambda _: render(rows), page.read_text()))
    return rows


def render(rows: Sequence[Entry]) -> str:
    """Return the table of the page."""
    lines = ["", "| fault | back ends | size | what held | measured | when, where |", "|---|---|---|---|---|---|"]
    for entry in rows:
        figures = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in entry.figures.items())
        where = f"{entry.date}, `{entry.commit}`, {entry.machine['cores']} cores, {entry.machine['memory_gib']} GiB"
        lines.append(
            f"| {entry.row} | {entry.back_ends} | {entry.size} | {entry.held} | {figures} | {where} |".replace(
                "\n", " "
            )
        )
    return "\n".join([*lines, "", ""])


def _commit() -> str:
    """Return which code ran, `unknown` outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    told = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else "unknown"
