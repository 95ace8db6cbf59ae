"""Run tests on the real servers of a cluster: `python -m tests.cluster [--serve | pytest arguments]`.

Kafka, Weaviate, Redis, PostgreSQL and an S3 store are brought or built once, into the user's cache folder (Redis and
PostgreSQL by the system's packages), and started on free ports of 127.0.0.1 with their data in a temporary folder.
Without arguments the tests marked `cluster` run; others go to pytest as they are. The exit status is pytest's. With
`--serve` the servers stay up until Ctrl-C, and what is printed lets single tests run on them from another terminal.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.cluster.running import install, running_cluster
from tests.cluster.servers.process import passable_folder
from tests.cluster_servers import VARIABLE

# The suites that have tests for a cluster.
SUITES = ("tests/unit", "tests/contract", "tests/cluster", "tests/e2e")
# The tests get this long to tidy up after Ctrl-C.
FAREWELL_S = 60.0


def say(line: str) -> None:
    """Show a line at once."""
    print(line, flush=True)


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """Return how pytest is called: the marked tests of our suites, unless the arguments choose others."""
    chosen = any(Path(argument.split("::")[0]).exists() for argument in arguments)
    return [sys.executable, "-m", "pytest", "-m", "cluster", *arguments, *(() if chosen else SUITES)]


def run_pytest(arguments: Sequence[str], variable: str) -> int:
    """Run pytest with the servers in its environment; return its exit status."""
    process = subprocess.Popen(pytest_command(arguments), env=os.environ | {VARIABLE: variable})
    try:
        return process.wait()
    except BaseException:
        # Ctrl-C reached it too; anything else did not.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=FAREWELL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def end(number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, also when asked by a signal: the servers are stopped."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    install(say)
    with passable_folder() as folder, running_cluster(folder, say) as servers:
        if list(arguments) != ["--serve"]:
            return run_pytest(arguments, servers.as_variable())
        say(f"\nexport {VARIABLE}={shlex.quote(servers.as_variable())}\n\nCtrl-C stops them.")
        signal.pause()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
