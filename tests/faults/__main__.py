"""Run the fault tests at release size and keep what they measured: `python -m tests.faults [pytest arguments]`.

First on the embedded back ends, then on the real servers of a cluster: those that `BRAIN_TEST_CLUSTER` names, else servers
of its own (`tests/cluster`). Arguments go to pytest: a file, or `-k relay`, runs one row alone. What held replaces what an
earlier run says of the same row (`benchmarks/results/faults.json`, `docs/faults.md`). The exit status is 1 when a row did not
hold; what an earlier run says of it stays then, with its date.

    --on embedded|cluster   only on these back ends
    --merge FILE            run nothing, only take over the lines of a file (BRAIN_FAULTS_RESULTS=FILE pytest …)
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.running import install, running_cluster
from tests.cluster.servers.process import passable_folder
from tests.cluster_servers import VARIABLE as CLUSTER
from tests.faults import results, sizes

# pytest's status when nothing was chosen: `-k` may name tests of one kind of back ends only.
_NO_TESTS = 5


def say(line: str) -> None:
    """Show a line at once."""
    print(line, flush=True)


@contextmanager
def back_ends(which: str) -> Iterator[dict[str, str]]:
    """Yield the environment of tests on some back ends."""
    environment = {name: value for name, value in os.environ.items() if name != CLUSTER}
    if which == "embedded":
        yield environment
    elif running := os.environ.get(CLUSTER):
        yield environment | {CLUSTER: running}
    else:
        install(say)
        with passable_folder() as folder, running_cluster(folder, say) as servers:
            yield environment | {CLUSTER: servers.as_variable()}


def run(which: str, arguments: Sequence[str], lines: Path) -> bool:
    """Run the fault tests on some back ends; return whether all held."""
    chosen = any(Path(argument.split("::")[0]).exists() for argument in arguments)
    command = [sys.executable, "-m", "pytest", *arguments, *(() if chosen else ("tests/faults",))]
    with back_ends(which) as environment:
        environment |= {sizes.VARIABLE: "release", results.VARIABLE: str(lines)}
        return subprocess.run(command, env=environment, check=False).returncode in {0, _NO_TESTS}


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--on", choices=("embedded", "cluster"), action="append")
    parser.add_argument("--merge", type=Path)
    known, others = parser.parse_known_args(arguments)
    if known.merge:
        results.merge(known.merge.read_text().splitlines())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        lines.touch()
        try:
            held = [run(which, others, lines) for which in known.on or ("embedded", "cluster")]
        finally:
            # Also after Ctrl-C: what held until then did.
            results.merge(lines.read_text().splitlines())
    return 0 if all(held) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
