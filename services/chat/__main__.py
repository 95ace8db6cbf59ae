"""Run the chat room: `python -m services.chat`."""

from services.chassis.lifecycle import run
from services.chassis.logging import start_logging
from services.chassis.settings import load
from services.chassis.telemetry import start_telemetry
from services.chat.bootstrap import serve
from services.chat.settings import ChatSettings

if __name__ == "__main__":
    settings = load(ChatSettings)
    start_logging("chat", level=settings.log_level, form=settings.log_format)
    start_telemetry("chat", settings)
    run(serve(settings))
