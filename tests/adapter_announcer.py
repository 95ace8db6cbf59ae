"""Announces adapters and aliases as the finetuning room does: blobs first, then an event."""

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brain.events.v1 import adapter_pb2 as pb
from services.chassis.blobs import BlobStore
from services.chassis.events.log import EventLog, new_envelope

TOPIC = "brain.adapter.v1"
PUBLISHED, BLOCKED, DELETED = (
    pb.ADAPTER_STATUS_PUBLISHED,
    pb.ADAPTER_STATUS_BLOCKED,
    pb.ADAPTER_STATUS_DELETED,
)


@dataclass
class Announcer:
    """One tenant's finetuning room."""

    log: EventLog
    blobs: BlobStore
    tenant: str = "acme"
    # The newest revision of each name that was announced.
    adapters: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    async def put(self, folder: Path) -> pb.AdapterState:
        """Put a directory's two files into blobs; return a state that points to them."""
        config = (folder / "adapter_config.json").read_bytes()
        weights = (folder / "adapter_model.safetensors").read_bytes()
        return await self.put_bytes(config, weights)

    async def put_bytes(self, config: bytes, weights: bytes) -> pb.AdapterState:
        stem = f"{self.tenant}/adapters/{uuid.uuid4().hex}"
        state = pb.AdapterState(
            config_blob_key=f"{stem}/config",
            weights_blob_key=f"{stem}/weights",
            config_digest=hashlib.sha256(config).hexdigest(),
            weights_digest=hashlib.sha256(weights).hexdigest(),
        )
        await self.blobs.put(state.config_blob_key, config)
        await self.blobs.put(state.weights_blob_key, weights)
        return state

    async def adapter(self, name: str, revision: int, files: pb.AdapterState | None = None, **changed: Any) -> None:
        """Announce a state of an adapter; without more it is published to everybody in the tenant."""
        state = pb.AdapterState(name=name, revision=revision, status=PUBLISHED, principals=["group:everyone"])
        state.created_at.GetCurrentTime()
        if files is not None:
            state.MergeFrom(files)
        for name_of, value in changed.items():
            if name_of == "principals":
                del state.principals[:]
                state.principals.extend(value)
            else:
                setattr(state, name_of, value)
        self.adapters[name] = max(revision, self.adapters.get(name, 0))
        await self.send(f"adapter:{name}", pb.AdapterEvent(adapter=state))

    async def alias(self, alias: str, target: str, revision: int, *, canary: str = "", weight: float = 0.0) -> None:
        state = pb.AliasState(alias=alias, target=target, canary=canary, canary_weight=weight, revision=revision)
        self.aliases[alias] = revision
        await self.send(f"alias:{alias}", pb.AdapterEvent(alias=state))

    async def clear(self) -> None:
        """Announce the end of everything that was announced."""
        for alias, revision in self.aliases.items():
            await self.alias(alias, "", revision + 1)
        for name, revision in self.adapters.items():
            await self.adapter(name, revision + 1, status=DELETED)

    async def send(self, key: str, event: pb.AdapterEvent) -> None:
        await self.send_bytes(key, event.SerializeToString(), kind=event.WhichOneof("fact") or "")

    async def send_bytes(self, key: str, payload: bytes, *, kind: str = "adapter") -> None:
        await self.log.publish(TOPIC, [new_envelope(tenant=self.tenant, type=kind, key=key, payload=payload)])
