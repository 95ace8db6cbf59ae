"""Where the gateway is and who asks: options, then the environment, then the stack running on this machine."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from client.errors import UsageError

__all__ = ["Connection", "connection", "local_state"]


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the gateway."""

    base_url: str
    api_key: str


def local_state(state_dir: Path) -> dict[str, object] | None:
    """Return what the local stack says of itself; None when none runs on this folder."""
    try:
        state: dict[str, object] = json.loads((state_dir / "local.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state


def connection(*, url: str = "", api_key: str = "", state_dir: Path = Path(".brain/state")) -> Connection:
    """Return how to reach the gateway.

    Raises:
        UsageError: Neither options nor environment nor a running stack say where it is.
    """
    url = url or os.environ.get("BRAIN_URL", "")
    api_key = api_key or os.environ.get("BRAIN_API_KEY", "")
    if not url and (state := local_state(state_dir)) is not None:
        url = str(state["base_url"])
    key_file = state_dir / "keys" / "administrator.key"
    if not api_key and key_file.exists():
        api_key = key_file.read_text().strip()
    if not url or not api_key:
        missing = "address (--url, BRAIN_URL)" if not url else "API key (--key, BRAIN_API_KEY)"
        raise UsageError(f"No {missing} is given, and no stack runs on {state_dir}. Start one with: brain up")
    return Connection(base_url=url.rstrip("/"), api_key=api_key)
