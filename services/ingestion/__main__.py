"""`python -m services.ingestion [all|serve|work]`: serve callers, read documents, or both; `export|import FOLDER`: carry its part."""

import argparse
import sys

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.ingestion.bootstrap import ROLES, moving, serve
from services.ingestion.settings import IngestionSettings

if __name__ == "__main__":
    if moved(sys.argv[1:], lambda: moving(load(IngestionSettings))):
        sys.exit()
    parser = argparse.ArgumentParser(prog="services.ingestion", description="The ingestion room.")
    parser.add_argument("role", nargs="?", default="all", choices=[role.value for role in ROLES])
    role = parser.parse_args().role
    settings = load(IngestionSettings)
    start_logging("ingestion", level=settings.log_level, form=settings.log_format)
    start_telemetry("ingestion", settings)
    run(serve(settings, role))
