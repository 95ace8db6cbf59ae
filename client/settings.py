"""Where the gateway is and who asks: options, the environment, `.brain/client.json`, the stack on this machine, in this order.

`.brain/client.json` holds any of `url`, `api_key` and `collection`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.errors import UsageError

__all__ = ["Connection", "connection", "local_state", "remembered"]

_REMEMBERED: Final = Path(".brain/client.json")


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


def remembered(name: str) -> str:
    """Return a setting of `.brain/client.json`; empty when it is not there.

    Raises:
        UsageError: The file holds something else than a JSON object of texts.
    """
    try:
        settings = json.loads(_REMEMBERED.read_text())
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise UsageError(f"{_REMEMBERED} is not valid JSON: {error}") from error
    value = settings.get(name, "") if isinstance(settings, dict) else None
    if not isinstance(value, str):
        raise UsageError(f'{_REMEMBERED} must hold texts: {{"url": "…", "api_key": "…", "collection": "…"}}')
    return value


def connection(*, url: str = "", api_key: str = "", state_dir: Path = Path(".brain/state")) -> Connection:
    """Return how to reach the gateway.

    Raises:
        UsageError: Neither options nor environment nor a running stack say where it is.
    """
    url = url or os.environ.get("BRAIN_URL", "") or remembered("url")
    api_key = api_key or os.environ.get("BRAIN_API_KEY", "") or remembered("api_key")
    if not url and (state := local_state(state_dir)) is not None:
        url = str(state["base_url"])
    key_file = state_dir / "keys" / "administrator.key"
    if not api_key and key_file.exists():
        api_key = key_file.read_text().strip()
    if not url or not api_key:
        missing = "address (--url, BRAIN_URL)" if not url else "API key (--key, BRAIN_API_KEY)"
        raise UsageError(f"No {missing} is given, and no stack runs on {state_dir}. Start one with: brain up")
    return Connection(base_url=url.rstrip("/"), api_key=api_key)
