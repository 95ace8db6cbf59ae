"""Start the room: `python -m services.retrieval [all|serve|index]`, or carry its part: `… export|import FOLDER`."""

import argparse
import sys

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.retrieval.bootstrap import ROLES, moving, serve
from services.retrieval.settings import RetrievalSettings

if __name__ == "__main__":
    if moved(sys.argv[1:], lambda: moving(load(RetrievalSettings))):
        sys.exit()
    parser = argparse.ArgumentParser(prog="services.retrieval", description="The retrieval room.")
    parser.add_argument("role", nargs="?", default="all", choices=ROLES)
    role = parser.parse_args().role
    settings = load(RetrievalSettings)
    start_logging("retrieval", level=settings.log_level, form=settings.log_format)
    start_telemetry("retrieval", settings)
    run(serve(settings, role=role))
