"""A trainer's and an administrator's way to a gateway whose finetuning room is there."""

import json
from dataclasses import dataclass
from typing import Any

from gateway.bootstrap.serving import Assembled
from tests.asgi_client import Answer, Client
from tests.unit.gateway.finetuning_room import Room

JSON = {"content-type": "application/json"}


@dataclass
class Tuned:
    """What a test speaks to, and the room behind it."""

    gateway: Assembled
    room: Room
    trainer: Client
    administrator: Client

    async def ask(self, method: str, target: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
        """Ask as a trainer."""
        data = b"" if body is None else json.dumps(body).encode()
        return await self.trainer.ask(method, target, data, JSON | (headers or {}))

    async def get(self, target: str) -> Any:
        """Return what a trainer reads."""
        answer = await self.ask("GET", target)
        assert answer.status == 200, answer.body
        return answer.json()
