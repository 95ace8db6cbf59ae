"""`python -m services.finetuning [all|serve|work]`: serve callers, do the work, or both; `export|import FOLDER`: carry its part."""

import argparse
import sys

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.finetuning.bootstrap import ROLES, moving, serve
from services.finetuning.settings import FinetuningSettings

if __name__ == "__main__":
    if moved(sys.argv[1:], lambda: moving(load(FinetuningSettings))):
        sys.exit()
    parser = argparse.ArgumentParser(prog="services.finetuning", description="The finetuning room.")
    parser.add_argument("role", nargs="?", default="all", choices=[role.value for role in ROLES])
    role = parser.parse_args().role
    settings = load(FinetuningSettings)
    start_logging("finetuning", level=settings.log_level, form=settings.log_format)
    start_telemetry("finetuning", settings)
    run(serve(settings, role))
