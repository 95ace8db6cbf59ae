"""Run the chat room: `python -m services.chat`, or carry its part: `… export|import FOLDER`."""

import sys

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.moving.command import moved
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.chat.bootstrap import moving, serve
from services.chat.settings import ChatSettings

if __name__ == "__main__":
    if moved(sys.argv[1:], lambda: moving(load(ChatSettings))):
        sys.exit()
    settings = load(ChatSettings)
    start_logging("chat", level=settings.log_level, form=settings.log_format)
    start_telemetry("chat", settings)
    run(serve(settings))
