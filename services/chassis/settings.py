"""Settings: one frozen object for each room, read from the environment once, in `__main__`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_origin

from pydantic import FilePath, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["EventSettings", "RoomSettings", "load", "room_config"]


# Type of a field -> what its variable must decode to, and how that is written.
_FORMS: Final[Mapping[Any, tuple[type, str]]] = {
    tuple: (list, 'list: ["one", "two"]'),
    Mapping: (dict, 'object: {"name": "value"}'),
}


def room_config(room: str) -> SettingsConfigDict:
    """Return the configuration of a room's settings: environment variables `BRAIN_<ROOM>_<FIELD>`, frozen."""
    # Lists and objects are decoded by a validator of ours: what pydantic says of one that is no JSON names no variable.
    return SettingsConfigDict(env_prefix=f"BRAIN_{room}_", frozen=True, extra="ignore", enable_decoding=False)


class RoomSettings(BaseSettings):
    """What every room can be told.

    Attributes:
        listen: Address of the room's own server, `host:port`; port 0 takes a free one.
        metrics_listen: Address of the Prometheus endpoint; empty for none.
        log_level: Least severe level that is logged.
        log_format: `json` for machines, `console` for people.
        otlp_endpoint: OpenTelemetry collector (OTLP over HTTP, base address); empty for no traces.
        token_public_key_files: Ed25519 public keys (PEM) of the gateway, which mints the tokens of callers.
        worker_public_key_files: Ed25519 public keys (PEM) by name of the worker room that acts for callers.
        tls_cert_file: This room's certificate (PEM); with it rooms speak TLS to each other and ask callers for theirs.
        tls_key_file: Private key of the certificate.
        tls_ca_file: Authorities (PEM) that other rooms' certificates must come from.
        tls_server_name: Name that the certificates of the rooms that this one calls are for; empty for that of the
            address that is called. For addresses of numbers (`ipv4:…`) where certificates carry names only.
        database_password_file: File with PostgreSQL's password; read for each connection.
        database_ca_file: Authorities (PEM) that PostgreSQL's certificates must come from; with one of these three files
            connections speak TLS and check the server's name.
        database_cert_file: Certificate (PEM) that is shown to PostgreSQL, where it asks for one.
        database_cert_key_file: Private key of that certificate.
        state_dir: Folder for what the room keeps on this machine.
        drain_s: Seconds that running requests get at a shutdown.
    """

    listen: str = "127.0.0.1:0"
    metrics_listen: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str = ""
    token_public_key_files: tuple[FilePath, ...] = ()
    worker_public_key_files: Mapping[str, FilePath] = {}
    tls_cert_file: FilePath | None = None
    tls_key_file: FilePath | None = None
    tls_ca_file: FilePath | None = None
    tls_server_name: str = ""
    database_password_file: FilePath | None = None
    database_ca_file: FilePath | None = None
    database_cert_file: FilePath | None = None
    database_cert_key_file: FilePath | None = None
    state_dir: Path = Path(".brain")
    drain_s: float = 10.0

    @field_validator("*", mode="before")
    @classmethod
    def _decoded(cls, value: Any, field: ValidationInfo) -> Any:
        """Return a list or an object of the environment as one; anything else as it is."""
        form = _FORMS.get(get_origin(cls.model_fields[str(field.field_name)].annotation))
        if not isinstance(value, str) or form is None:
            return value
        kind, said = form
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise ValueError(f"use a JSON {said}")  # noqa: TRY004  the only kind that pydantic collects
        return found


class EventSettings(RoomSettings):
    """What a room that tells or hears facts can be told besides.

    Attributes:
        events_url: The event log: `sqlite:///PATH`, `kafka://HOST:PORT[,HOST:PORT…]`, or `kafkas://…` for TLS;
            `?partitions=N&replication=N` say how topics are made that are not there, `prefix=TEXT` how names begin.
        events_user: Who signs in to Kafka (SASL); empty for nobody.
        events_password_file: File with that user's password.
        events_mechanism: How that user signs in.
        events_ca_file: Authorities (PEM) that Kafka's certificates must come from; none for those of the web.
        events_cert_file: Certificate (PEM) that is shown to Kafka, where it asks for one.
        events_cert_key_file: Private key of that certificate.
    """

    events_url: str = "sqlite:///.brain/events.db"
    events_user: str = ""
    events_password_file: FilePath | None = None
    events_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = "SCRAM-SHA-512"
    events_ca_file: FilePath | None = None
    events_cert_file: FilePath | None = None
    events_cert_key_file: FilePath | None = None


Settings = TypeVar("Settings", bound=BaseSettings)


def load(kind: type[Settings]) -> Settings:
    """Return the settings, or print which variables are wrong and what is allowed, and exit with status 2."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        for fault in error.errors(include_url=False):
            name = prefix + str(fault["loc"][0]).upper()
            said = fault["msg"].removeprefix("Value error, ")
            sys.stderr.write(f"{name}: {said} (got {str(fault['input'])!r})\n")
        raise SystemExit(2) from error
