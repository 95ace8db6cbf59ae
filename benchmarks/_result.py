"""What every benchmark leaves behind: one JSON object with the machine, the versions and a row for each claim."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

__all__ = ["CORES", "RESULTS", "Row", "beside", "machine", "report", "row", "shared_data", "spread"]

# Those that this process may use: what measures no time can share a machine, each held to some of its cores.
CORES: Final = len(os.sched_getaffinity(0))
RESULTS: Final = Path(__file__).resolve().parent / "results"
_SHARED: Final = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured claim.

    Attributes:
        metric: What was measured.
        ours: The value.
        peer: What it is compared with, in the same run; None for an absolute claim.
        peer_value: The peer's value.
        ratio: `ours / peer_value`.
        spread: How far the rounds lie apart, or a confidence interval.
        target: What was promised, as `>= 0.9`; None for a value that is only reported.
        holds: Whether the target is met; None without a target.
    """

    metric: str
    ours: float
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: str | None = None
    holds: bool | None = None


def row(metric: str, ours: float, target: tuple[Literal[">=", "<="], float] | None = None) -> Row:
    """Return a row for an absolute claim, judged against its target."""
    ours = round(ours, 4)
    if target is None:
        return Row(metric, ours)
    sign, bound = target
    return Row(metric, ours, target=f"{sign} {bound:g}", holds=ours >= bound if sign == ">=" else ours <= bound)


def beside(
    metric: str,
    pairs: Sequence[tuple[float, float]],
    peer: str,
    target: tuple[Literal[">=", "<="], float] | None = None,
) -> Row:
    """Return a row of medians, with the median and the spread of the rounds' ratios.

    Args:
        metric: What was measured.
        pairs: Ours and the peer's of each round.
        peer: What it is compared with.
        target: What is promised of the ratio.
    """
    ratios = [ours / theirs for ours, theirs in pairs]
    ratio = statistics.median(ratios)
    promised = None if target is None else row("", ratio, target)
    return Row(
        metric,
        round(statistics.median(ours for ours, _ in pairs), 4),
        peer=peer,
        peer_value=round(statistics.median(theirs for _, theirs in pairs), 4),
        ratio=round(ratio, 4),
        spread=spread(ratios),
        target=None if promised is None else f"ratio {promised.target}",
        holds=None if promised is None else promised.holds,
    )


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest."""
    return round(min(values), 4), round(max(values), 4)


def machine() -> dict[str, Any]:
    """Return what a result says of the machine that it was measured on."""
    return {
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def report(
    name: str, rows: Sequence[Row], *, packages: Sequence[str], more: dict[str, Any] | None = None, command: str = ""
) -> bool:
    """Print the rows and, as the last line, the JSON object; write it to `results/`; return whether every target holds.

    Args:
        name: Of the benchmark.
        rows: The claims.
        packages: Distributions whose versions matter.
        more: What else belongs to the record, beside the rows.
        command: What measures it again; empty for `make bench ONLY=name`.
    """
    for one in rows:
        verdict = "" if one.holds is None else f"  {one.target}  {'holds' if one.holds else 'MISSED'}"
        print(f"{one.metric:<72} {one.ours:>10.4g}{verdict}")
    result = {
        "name": name,
        "command": command or f"make bench ONLY={name}",
        "machine": machine(),
        "versions": {package: _version(package) for package in ("corporate-brain", *packages)},
        "rows": [asdict(one) for one in rows],
    } | (more or {})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, ensure_ascii=False))
    return all(one.holds is not False for one in rows)


def shared_data(folder: str) -> Path | None:
    """Return a folder of the real documents beside the checkout; None when it is not there."""
    found = _SHARED / folder
    return found if found.is_dir() else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
