"""What a check before training says: findings with stable codes, and the numbers behind them (docs/tuning.md)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

MOST_LINES: Final = 20
"""Most line numbers under one finding; its numbers hold the count of all."""


class Severity(StrEnum):
    """How bad a finding is: an error ends the job before it begins."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: Stable name.
        severity: How bad it is.
        message: What it is and what to do, for a person; never a value out of a row that is personal.
        lines: The first lines that it concerns.
        numbers: Counts and shares.
    """

    code: str
    severity: Severity
    message: str
    lines: tuple[int, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        stage: The stage that was checked for.
        findings: Errors first.
        numbers: Rows, tokens and shares.
        template_hash: SHA-256 of the chat template that rows were rendered with; empty for none.
        sections: What others add, by name: the estimate of time and memory.
    """

    stage: str
    findings: tuple[Finding, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)
    template_hash: str = ""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether nothing that was found forbids to train."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def first_error(self) -> Finding | None:
        """The error that a job fails with."""
        return next((finding for finding in self.findings if finding.severity is Severity.ERROR), None)

    def with_findings(self, *more: Finding) -> "Report":
        """Return the report with further findings."""
        return replace(self, findings=ordered((*self.findings, *more)))

    def with_section(self, name: str, values: Mapping[str, Any]) -> "Report":
        """Return the report with what somebody adds to it."""
        return replace(self, sections={**self.sections, name: dict(values)})

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        return json.dumps(
            {
                "trainable": self.trainable,
                "stage": self.stage,
                "template_hash": self.template_hash,
                "numbers": dict(self.numbers),
                "findings": [
                    {
                        "code": finding.code,
                        "severity": finding.severity.value,
                        "message": finding.message,
                        "lines": list(finding.lines),
                        "numbers": dict(finding.numbers),
                    }
                    for finding in self.findings
                ],
                **{name: dict(values) for name, values in self.sections.items()},
            },
            ensure_ascii=False,
        )


_ORDER: Final = tuple(Severity)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings with the errors first, otherwise as they were found."""
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity)))


def at_lines(
    code: str, severity: Severity, message: str, lines: Sequence[int], numbers: Mapping[str, float] | None = None
) -> Finding:
    """Return a finding that concerns some lines: the first of them, and their count as `rows`."""
    distinct = sorted(set(lines))
    return Finding(code, severity, message, tuple(distinct[:MOST_LINES]), {"rows": len(distinct), **(numbers or {})})
