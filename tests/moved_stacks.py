"""Stacks that are exported, wiped and imported, by the commands that people use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from services.local.child import child_stack
from tests.running_stack import ROOT, RunningStack

__all__ = ["answers", "asked", "exported", "found", "imported", "started"]

# Questions on their way at once.
_AT_ONCE = 4


@contextmanager
def started(state_dir: Path, environment: Mapping[str, str], *, engine: str) -> Iterator[RunningStack]:
    """Start a stack on exactly these back ends (none named: the embedded ones)."""
    with child_stack(state_dir, engine=engine, environment=environment) as child:
        yield RunningStack(child.state_dir, child.base_url, child.administrator_key, child.environment)


def exported(state_dir: Path, environment: Mapping[str, str], folder: Path, *flags: str) -> dict[str, Any]:
    """Export an installation and return what was said to be done."""
    return _done(_brain(state_dir, environment, "export", str(folder), "--json", *flags))


def imported(state_dir: Path, environment: Mapping[str, str], folder: Path, *flags: str) -> dict[str, Any]:
    """Import an archive and return what was said to be done."""
    return _done(_brain(state_dir, environment, "import", str(folder), "--json", *flags))


def asked(state_dir: Path, environment: Mapping[str, str], *arguments: str) -> str:
    """Return why an export or import was refused."""
    process = _brain(state_dir, environment, *arguments)
    assert process.returncode == 1, process.stdout + process.stderr
    return " ".join(process.stderr.split())


def found(client: httpx.Client, collection: str, queries: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return the first five passages for each query: file and text."""

    def search(query: str) -> list[tuple[str, str]]:
        body = {"query": query, "max_num_results": 5}
        answer = client.post(f"/v1/vector_stores/{collection}/search", json=body)
        assert answer.status_code == 200, answer.text
        return [(hit["file_id"], hit["content"][0]["text"]) for hit in answer.json()["data"]]

    with ThreadPoolExecutor(_AT_ONCE) as hands:
        return list(hands.map(search, queries))


def answers(client: httpx.Client, collection: str, queries: Sequence[str]) -> list[tuple[str, Any]]:
    """Return what is answered to each question, with its citations."""

    def ask(question: str) -> tuple[str, Any]:
        turns = [{"role": "user", "content": question}]
        body = {"model": "default", "temperature": 0, "collections": [collection], "messages": turns}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        return said["choices"][0]["message"]["content"], said["citations"]

    with ThreadPoolExecutor(_AT_ONCE) as hands:
        return list(hands.map(ask, queries))


def _brain(state_dir: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "client", "--state-dir", str(state_dir), *arguments],
        env=os.environ | dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _done(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert process.returncode == 0, process.stdout + process.stderr
    return dict(json.loads(process.stdout))
