"""Which rooms there are, in which order they start, and the settings that join them on one machine."""

import json
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from services.chassis.errors import InvalidInput
from services.chassis.rpc.tls import Tls

__all__ = ["ROOMS", "Addresses", "KeyPair", "RoomPlan", "StackPlan", "free_addresses", "plan_stack"]

# Callees before callers, so that a room finds whom it needs.
ROOMS: Final = ("generation", "retrieval", "ingestion", "finetuning", "chat", "gateway")
_MODULES: Final = {
    "generation": "services.generation",
    "retrieval": "services.retrieval",
    "ingestion": "services.ingestion",
    "finetuning": "services.finetuning",
    "chat": "services.chat",
    "gateway": "gateway",
}
# Rooms whose work goes on without a caller; each signs for the callers of its work with a key of its own.
_WORKERS: Final = ("finetuning",)
# Characters of a temporary folder in which a socket's path (a name of up to 38 characters) still fits the 107 that Linux
# allows. In a longer one the rooms use the system's folder, where a killed room leaves its sockets.
_LONGEST_SCRATCH: Final = 107 - 38 - 1
# Room -> the rooms it calls.
_CALLS: Final = {
    "generation": (),
    "retrieval": (),
    "ingestion": ("retrieval",),
    "finetuning": ("ingestion", "retrieval", "generation"),
    "chat": ("retrieval", "generation"),
    "gateway": ("ingestion", "retrieval", "generation", "chat", "finetuning"),
}
# What settings of a room's certificates end with.
_TLS: Final = ("CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_NAME")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a room listens."""

    serving: str
    metrics: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where the two halves of a key lie."""

    private: Path
    public: Path


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """How one room is started."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    addresses: Addresses
    log_file: Path

    def tls(self) -> Tls | None:
        """Return what whoever asks for its health shows to the room: its own certificate; None for plain text.

        Raises:
            InvalidInput: The room's settings name files that are none; it ends, and says so, too.
        """
        named = {key: self.environment.get(f"BRAIN_{self.name.upper()}_TLS_{key}", "") for key in _TLS}
        if not any(named[key] for key in _TLS[:3]):
            return None
        authorities, certificate, key, server_name = named.values()
        return Tls.of_files(
            authorities=Path(authorities), certificate=Path(certificate), key=Path(key), server_name=server_name
        )


@dataclass(frozen=True, slots=True)
class StackPlan:
    """How all rooms are started."""

    state_dir: Path
    rooms: tuple[RoomPlan, ...]

    def room(self, name: str) -> RoomPlan:
        """Return the plan of one room."""
        return next(room for room in self.rooms if room.name == name)

    @property
    def scratch(self) -> Path:
        """Where the rooms put sockets and temporary files; empty after a stop."""
        return self.state_dir / "tmp"

    @property
    def base_url(self) -> str:
        """Where the gateway answers."""
        return f"http://{self.room('gateway').addresses.serving}"

    @property
    def private_key_file(self) -> Path:
        """What the gateway signs internal tokens with."""
        return self.state_dir / "keys" / "internal.pem"

    @property
    def public_key_file(self) -> Path:
        """What the rooms verify internal tokens with."""
        return self.state_dir / "keys" / "internal.pub.pem"

    @property
    def worker_keys(self) -> Mapping[str, KeyPair]:
        """The keys of the worker rooms in this plan, by room."""
        return _worker_keys(self.state_dir)


def _worker_keys(state_dir: Path) -> dict[str, KeyPair]:
    keys = state_dir / "keys"
    return {room: KeyPair(keys / f"{room}.pem", keys / f"{room}.pub.pem") for room in _WORKERS if room in ROOMS}


def free_addresses(http_port: int) -> dict[str, Addresses]:
    """Return loopback addresses for every room; the gateway's HTTP port is `http_port` unless that is 0.

    Raises:
        InvalidInput: Nobody can listen on `http_port`.
    """
    _check_port(http_port)
    with ExitStack() as held:
        # All sockets are held until the last is chosen, so that no port is given twice.
        def free() -> str:
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{listener.getsockname()[1]}"

        addresses = {name: Addresses(serving=free(), metrics=free()) for name in ROOMS}
    if http_port:
        addresses["gateway"] = Addresses(serving=f"127.0.0.1:{http_port}", metrics=addresses["gateway"].metrics)
    return addresses


def _check_port(port: int) -> None:
    with socket.socket() as listener:
        # As the gateway does: what lingers of connections to an earlier stack is no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not 0 to 65535"
            raise InvalidInput(
                f"port: {port} cannot be listened on ({reason}); choose another, or 0 for a free one.", param="port"
            ) from error


def plan_stack(*, state_dir: Path, addresses: Mapping[str, Addresses], inherited: Mapping[str, str]) -> StackPlan:
    """Return how to start every room.

    Args:
        state_dir: Folder for databases, blobs, index, keys and logs.
        addresses: Where each room listens.
        inherited: Environment to pass on; its `BRAIN_…` variables win over the plan's.
    """
    state = state_dir.resolve()
    # Where a room is told to listen is where the others, and the supervisor, look for it.
    addresses = {
        name: Addresses(
            serving=inherited.get(f"BRAIN_{name.upper()}_LISTEN", planned.serving),
            metrics=inherited.get(f"BRAIN_{name.upper()}_METRICS_LISTEN", planned.metrics),
        )
        for name, planned in addresses.items()
    }
    workers = _worker_keys(state)
    rooms = []
    for name in ROOMS:
        settings = {
            "LISTEN": addresses[name].serving,
            "METRICS_LISTEN": addresses[name].metrics,
            "STATE_DIR": str(state / name),
            "DATABASE_URL": f"sqlite:///{state / name / 'room.db'}",
            "BLOBS_URL": f"file://{state / 'blobs'}",
            "EVENTS_URL": f"sqlite:///{state / 'events.db'}",
            "INDEX_URL": f"lancedb://{state / 'index'}",
            "TOKEN_PUBLIC_KEY_FILES": f'["{state / "keys" / "internal.pub.pem"}"]',
            "LOG_FORMAT": "json",
        }
        if workers:
            settings["WORKER_PUBLIC_KEY_FILES"] = json.dumps({room: str(pair.public) for room, pair in workers.items()})
        if name in workers:
            settings["WORKER_KEY_FILE"] = str(workers[name].private)
        if name in {"generation", "finetuning"}:
            settings |= _base_model(inherited)
        if name == "finetuning":
            settings["WEBHOOK_SECRET_FILE"] = str(state / "keys" / "webhooks.secret")
        if name == "gateway":
            settings["TOKEN_PRIVATE_KEY_FILE"] = str(state / "keys" / "internal.pem")
            settings["API_KEY_SECRET_FILE"] = str(state / "keys" / "api-keys.secret")
        settings |= {f"{callee.upper()}_ADDRESS": addresses[callee].serving for callee in _CALLS[name]}
        environment = {f"BRAIN_{name.upper()}_{key}": value for key, value in settings.items()}
        # One thread for each of the numeric libraries: several rooms share the cores.
        ours = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        if len(str(state / "tmp")) <= _LONGEST_SCRATCH:
            ours["TMPDIR"] = str(state / "tmp")
        environment = ours | environment | dict(inherited)
        rooms.append(
            RoomPlan(
                name=name,
                command=(sys.executable, "-m", _MODULES[name]),
                environment=environment,
                addresses=addresses[name],
                log_file=state / "logs" / f"{name}.log",
            )
        )
    return StackPlan(state_dir=state, rooms=tuple(rooms))


def _base_model(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what the room that serves the base model and the one that trains on it must be told alike."""
    said = {
        key: inherited[name]
        for key in ("MODEL", "SERVED_NAME", "CACHE_DIR")
        if (name := f"BRAIN_GENERATION_{key}") in inherited
    }
    engine = urlsplit(inherited.get("BRAIN_GENERATION_ENGINE", ""))
    if engine.scheme == "scripted" and not said.get("SERVED_NAME"):
        # It has no weights to be named after: what is trained on is listed under the script's name, too.
        mode = parse_qs(engine.query).get("mode", ["echo"])[-1]
        said["SERVED_NAME"] = f"scripted-{mode}"
    return said
