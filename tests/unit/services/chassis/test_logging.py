"""What a room's log holds of a crash: where, never with what."""

import subprocess
import sys

import pytest

CRASH = """
import logging
import structlog
from services.chassis.logging import start_logging

def read(passage):
    raise ValueError("unreadable")

start_logging("chat", level="info", form={form!r})
try:
    read("salary " + "list")
except ValueError as error:
    {logger}
"""
LOGGERS = {
    "ours": 'structlog.get_logger().error("rpc_crashed", exc_info=error)',
    "a library's": 'logging.getLogger("library").exception("it failed")',
}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("whose", LOGGERS)
def test_a_crash_is_logged_with_its_place_and_without_the_values(form: str, whose: str) -> None:
    program = CRASH.format(form=form, logger=LOGGERS[whose])
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert "unreadable" in said
    assert "read" in said.replace("unreadable", "")
    assert "salary list" not in said
