"""Run the official SDKs, oldest and newest, against the real gateway: `python -m tests.conformance [--engine …] [SDK …]`.

Each SDK lives in its own environment, made once from its hashed lock and kept in the user's cache folder. The whole
stack is started on embedded back ends in a temporary folder, with the scripted engine unless told otherwise, and
stopped at the end. The last line is `N passed, N failed`; the exit status is 0 only when nothing failed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from tests.running_stack import ROOT, RunningStack, running_stack

HERE = Path(__file__).resolve().parent
SDKS = ("openai-oldest", "openai-newest", "cohere-oldest", "cohere-newest")
# How each engine is named to the stack. The scripted one answers with the best sentence of the passages.
ENGINES = {"scripted": "scripted://?mode=extract", "vllm": "vllm://"}
# The tests listen on this machine for the webhooks of their jobs.
SETTINGS = {"BRAIN_FINETUNING_WEBHOOK_HTTP_LOOPBACK": "true"}
# One SDK's tests, with a slow first answer of a small real model, and five trainers, on a busy machine.
SUITE_TIMEOUT_S = 1800


def cache_folder() -> Path:
    """Return the folder that keeps the SDKs' environments."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corporate-brain" / "conformance"


def environment(sdk: str) -> Path:
    """Return the interpreter of an SDK's environment; make it when its lock changed or it is not there."""
    lock = ROOT / "requirements" / f"conformance-{sdk}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = cache_folder() / f"{sdk}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = folder / "venv" / "bin" / "python", folder / "lock.sha256"
    if python.exists() and stamp.exists() and stamp.read_text().strip() == digest:
        return python
    print(f"[{sdk}] installing from {lock.relative_to(ROOT)}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run([*uv, "pip", "install", "-q", "--require-hashes", "--python", python, "-r", lock], check=True)
    stamp.write_text(digest)
    return python


def told(stack: RunningStack, engine: str, stranger: str, sdk: str) -> dict[str, str]:
    """Return what the tests must know, as their environment: where the gateway is, who answers, keys, what was printed."""
    values = {
        "URL": stack.base_url,
        "ENGINE": engine,
        "ADMINISTRATOR_KEY": stack.administrator_key,
        "VIEWER_KEY": viewer_key(stack, f"viewer-{sdk}"),
        "LIMITED_KEY": viewer_key(stack, f"hasty-{sdk}", requests_per_minute=5),
        "OTHER_TENANT_KEY": stranger,
        "OUTPUT": str(stack.state_dir / "stack.out"),
    }
    return {f"BRAIN_CONFORMANCE_{key}": value for key, value in values.items()}


def viewer_key(stack: RunningStack, subject: str, requests_per_minute: int | None = None) -> str:
    """Return a key that may read and ask, made through the native API."""
    body = {"subject": subject, "roles": ["viewer"], "requests_per_minute": requests_per_minute}
    request = urllib.request.Request(
        f"{stack.base_url}/brain/v1/keys",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {stack.administrator_key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["secret"])


def run_suite(sdk: str, python: Path, values: dict[str, str], results: Path) -> tuple[int, int]:
    """Run one SDK's tests; return how many passed and how many failed."""
    print(f"\n[{sdk}]", flush=True)
    report = results / f"{sdk}.xml"
    folder = f"{sdk.split('-', maxsplit=1)[0]}_sdk"
    # Only what a program needs, so that a proxy or a key of the caller's shell cannot reach the SDK.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-c",
        HERE / "pytest.ini",
        f"--junitxml={report}",
        HERE / folder,
    ]
    try:
        status = subprocess.run(command, env=kept | values, cwd=HERE, timeout=SUITE_TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"[{sdk}] not done after {SUITE_TIMEOUT_S} s", flush=True)
        return 0, 1
    if not report.exists():
        return 0, 1
    suite = next(iter(ET.parse(report).getroot().iter("testsuite")))
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    # A run that ended badly without naming a test (a broken conftest) has failed all the same.
    return count["tests"] - failed - count["skipped"], max(failed, int(status != 0))


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the official SDKs against the real gateway.")
    parser.add_argument(
        "sdks", nargs="*", metavar="SDK", help=f"which SDKs, of {', '.join(SDKS)}; all when none is named"
    )
    parser.add_argument("--engine", choices=sorted(ENGINES), default="scripted", help="who answers")
    asked = parser.parse_args(arguments)
    unknown = set(asked.sdks) - set(SDKS)
    if unknown:
        parser.error(f"unknown SDK {', '.join(sorted(unknown))}; choose from {', '.join(SDKS)}")
    chosen = asked.sdks or SDKS
    interpreters = {sdk: environment(sdk) for sdk in chosen}
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="brain-conformance-") as folder:
        results = Path(folder)
        with running_stack(results / "state", engine=ENGINES[asked.engine], environment=SETTINGS) as stack:
            # Another tenant's first key is made on the machine: no route reaches across tenants.
            stranger = stack.key("stranger", tenant="elsewhere", role="administrator")
            for sdk, python in interpreters.items():
                good, bad = run_suite(sdk, python, told(stack, asked.engine, stranger, sdk), results)
                passed, failed = passed + good, failed + bad
    print(f"\n{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
