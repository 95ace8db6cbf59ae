"""What docs/telemetry.md and the pages below it promise, as tests read them."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.running_stack import ROOT

DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Metric:
    """One metric. Of an info metric Prometheus shows the labels of its only sample."""

    name: str
    kind: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """One kind of span: its name, in which `<word>` stands for any one, and the attributes that it may have."""

    name: str
    attributes: frozenset[str]

    def is_of(self, name: str) -> bool:
        """Return whether a span of this name is of this kind."""
        return re.fullmatch(re.sub(r"<[^>]+>", ".+", re.escape(self.name)), name) is not None


def _rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table that begins with the heading."""
    _, _, table = page.read_text().partition(f"| {heading} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def _names(cell: str) -> list[str]:
    return re.findall(r"[a-z][\w.]*", cell.replace("`", ""))


def metrics(page: Path) -> set[Metric]:
    """Return the metrics of a page."""
    return {Metric(name.strip("`"), kind, tuple(_names(labels))) for name, kind, labels, *_ in _rows(page, "metric")}


def spans(page: Path) -> list[Span]:
    """Return the spans of a page."""
    return [Span(name.strip("`"), frozenset(_names(attributes))) for name, attributes, *_ in _rows(page, "span")]
