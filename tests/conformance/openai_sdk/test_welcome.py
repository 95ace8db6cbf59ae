"""What `make run` prints works as it is printed."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def welcome(output: Path) -> str:
    return output.read_text()


def test_the_printed_snippet_answers(welcome: str) -> None:
    snippet = textwrap.dedent(welcome.partition("or with the openai SDK:\n")[2].partition("\nStop with")[0])
    assert "OpenAI(base_url=" in snippet
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_printed_curl_line_answers(welcome: str) -> None:
    line = welcome.partition("Ask it with curl:\n")[2].partition("\nor with")[0].strip()
    assert line.startswith("curl ")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
