"""docs/faults.md shows what the record of the fault tests says."""

import json

from tests.faults.results import PAGE, RECORD, Entry, render


def test_the_page_shows_the_record() -> None:
    rows = [Entry(**row) for row in json.loads(RECORD.read_text())["rows"]]
    assert render(rows) in PAGE.read_text(), "Run 'python -m tests.faults --merge /dev/null'."
