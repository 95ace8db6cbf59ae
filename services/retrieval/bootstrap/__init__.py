"""Where the room's choices are made and its parts are joined."""

from services.retrieval.bootstrap.commands import main

__all__ = ["main"]
