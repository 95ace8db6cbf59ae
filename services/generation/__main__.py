"""Starts the room: `python -m services.generation`, or carries its part: `… export|import FOLDER`."""

import sys

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.generation.bootstrap import moving, serve
from services.generation.settings import GenerationSettings

# The guard matters twice: the engine's child processes import this module again under another name.
if __name__ == "__main__":
    if moved(sys.argv[1:], lambda: moving(load(GenerationSettings))):
        sys.exit()
    settings = load(GenerationSettings)
    start_logging("generation", level=settings.log_level, form=settings.log_format)
    start_telemetry("generation", settings)
    run(serve(settings))
