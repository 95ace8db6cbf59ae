"""Codes that programs read are written down."""

import re
from collections.abc import Iterable
from pathlib import Path

from services.finetuning.domain.personal_data import PersonalData

ROOT = Path(__file__).resolve().parents[4]
ROOM = ROOT / "services" / "finetuning"
DOCUMENT = (ROOT / "docs" / "tuning.md").read_text()
WRITTEN = set(re.findall(r"`([a-z_0-9]+)`", DOCUMENT))


def found(pattern: str, paths: Iterable[Path]) -> set[str]:
    return {code for path in paths for code in re.findall(pattern, path.read_text())}


def test_every_finding_is_written_down() -> None:
    paths = [ROOM / "domain" / f"{name}.py" for name in ("preflight", "adapter_shape", "report")]
    paths.append(ROOM / "usecases" / "validating.py")
    codes = found(r'(?:at_lines|Finding|_error)\(\s*"([a-z_]+)"', paths)
    assert len(codes) >= 20
    codes |= {f"personal_data_{kind}" for kind in PersonalData}
    assert codes - WRITTEN == set()


def test_every_fault_of_a_line_is_written_down() -> None:
    domain = ROOM / "domain"
    paths = [domain / f"{name}.py" for name in ("json_lines", "row_shapes", "row_reading")]
    codes = found(r'(?:\.add|BadLine|Fault|\.stop)\(\s*"([a-z_0-9]+)"', paths)
    assert len(codes) >= 18
    assert {f"row_{code}" for code in codes} - WRITTEN == set()
    imported = found(r'(?:\.add|refused)\(\s*"([a-z_0-9]+)"', (domain / "importing").glob("*.py"))
    assert {code for code in imported if code not in WRITTEN and f"row_{code}" not in WRITTEN} == set()


def test_every_reason_to_leave_something_out_is_written_down() -> None:
    usecases, domain = ROOM / "usecases", ROOM / "domain"
    named = found(r'leave_out\(\s*"([a-z_]+)"', usecases.glob("*.py"))
    returned = found(
        r'(?:return|else) "([a-z]+_[a-z_]+)"',
        [
            usecases / "reading_sets.py",
            usecases / "written_facts.py",
            usecases / "facts.py",
            domain / "facts.py",
            domain / "asking.py",
        ],
    )
    assert len(named | returned) >= 25
    assert (named | returned) - WRITTEN == set()
