"""Run the whole stack on this machine: `python -m services.local`, carry it away and back, or change its embedder.

`… export|import FOLDER` (docs/moving.md); `… reembed`, beside the stack while it runs (docs/embedders.md).
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from services.local.moving_command import export_or_import
from services.local.plan import free_addresses, plan_stack
from services.local.stack import run_stack

_STATE_DIR = Path(".brain/state")


def main() -> None:
    """Read the arguments, and do it or run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=_STATE_DIR, help="where everything is kept")
    parser.add_argument("--port", type=int, default=0, help="HTTP port of the gateway on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--engine", default="", help="vllm:// or scripted://?mode=…; empty for the room's default")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until every room must be ready")
    commands = parser.add_subparsers(dest="command", metavar="command")
    changing = commands.add_parser("reembed", help="change the embedder of the stack in the state folder")
    changing.add_argument("--drop-old", action="append_const", dest="more", const="--drop-old")
    changing.add_argument("--abandon", action="append_const", dest="more", const="--abandon")
    leaving = commands.add_parser("export", help="write everything into a folder")
    leaving.add_argument("--with-secrets", action="store_true", help="put the secret files into it, too")
    coming = commands.add_parser("import", help="bring such a folder into an empty installation")
    coming.add_argument("--new-secrets", action="store_true", help="go on without the archive's API keys and webhooks")
    for one in (leaving, coming):
        one.add_argument("folder", type=Path)
        one.add_argument("--json", action="store_true", help="print JSON for a program")
    arguments = parser.parse_args()
    if arguments.command == "reembed":
        plan = plan_stack(state_dir=arguments.state_dir, addresses=free_addresses(0), inherited=os.environ)
        if not plan.private_key_file.exists():
            parser.error(f"--state-dir: {arguments.state_dir} holds no stack; name the folder of one that was started.")
        room = plan.room("retrieval")
        # In place of this process: it has the terminal, and is told of signals.
        command = [*room.command, "reembed", *(arguments.more or ())]
        os.execve(command[0], command, dict(room.environment))  # noqa: S606  no shell is wanted
    environment = dict(os.environ)
    if arguments.command is not None:
        sys.exit(export_or_import(arguments, environment))
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
