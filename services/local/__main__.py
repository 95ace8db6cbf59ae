"""Run the whole stack on this machine: `python -m services.local [--state-dir DIR] [--port PORT]`."""

import argparse
import asyncio
import os
from pathlib import Path

from services.local.stack import run_stack


def main() -> None:
    """Read the arguments and run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".brain/state"), help="where everything is kept")
    parser.add_argument("--port", type=int, default=0, help="HTTP port of the gateway on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--engine", default="", help="vllm:// or scripted://?mode=…; empty for the room's default")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until every room must be ready")
    arguments = parser.parse_args()
    environment = dict(os.environ)
    if arguments.engine:
        environment["BRAIN_GENERATION_ENGINE"] = arguments.engine
    raise SystemExit(
        asyncio.run(
            run_stack(
                state_dir=arguments.state_dir,
                http_port=arguments.port,
                environment=environment,
                timeout_s=arguments.timeout,
            )
        )
    )


if __name__ == "__main__":
    main()
