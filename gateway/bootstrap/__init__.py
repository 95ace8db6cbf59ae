"""Where the gateway is put together: its commands, each of which imports only the parts that it needs.

Making a key or setting a quota takes the database and few rules (`keys`), serving takes every part (`serving`).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gateway.domain.identity import KeyGrant
from gateway.settings import GatewaySettings
from services.chassis.auth import Role
from services.chassis.errors import BrainError
from services.chassis.moving.command import moved
from services.chassis.moving.part import RoomPart
from services.chassis.settings import load

__all__ = ["main", "moving"]


def main(arguments: Sequence[str]) -> None:
    """Serve, make an API key, set a quota, write the OpenAPI document, or carry the gateway's part of an installation."""
    if moved(arguments, lambda: moving(load(GatewaySettings))):
        return
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The gateway; without a command it serves.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve HTTP (the default)")
    commands.add_parser("all", help="the same")
    commands.add_parser("openapi", help="print the OpenAPI document")
    key = commands.add_parser("create-key", help="make an API key and print it, once")
    key.add_argument("--tenant", required=True, help="organisation or division; nothing crosses tenants")
    key.add_argument("--subject", required=True, help="who the key speaks for")
    key.add_argument("--role", action="append", required=True, choices=[role.value for role in Role])
    key.add_argument("--group", action="append", default=[], help="group of the subject; may be given again")
    key.add_argument("--name", default="", help="what the key is for")
    key.add_argument("--expires-days", type=float, help="days until it ends; never without")
    key.add_argument("--requests-per-minute", type=int, help="its own limit")
    key.add_argument("--max-concurrent", type=int, help="its own limit of requests at once")
    quota = commands.add_parser("set-quota", help="limit the tokens that a tenant may use each day (UTC)")
    quota.add_argument("--tenant", required=True)
    quota.add_argument("--tokens-per-day", type=int, help="without it the limit is lifted")
    for name, does in (("export", "write the gateway's part into a folder"), ("import", "bring it in again")):
        commands.add_parser(name, help=f"{does}; {name} --help says more")
    asked = parser.parse_args(arguments)
    match asked.command:
        case "openapi":
            from gateway.bootstrap.serving import document  # noqa: PLC0415  every part of the gateway

            sys.stdout.write(json.dumps(asyncio.run(document()), indent=2) + "\n")
        case "create-key":
            _create_key(asked)
        case "set-quota":
            _set_quota(asked)
        case _:
            from gateway.bootstrap.serving import run  # noqa: PLC0415  every part of the gateway

            run(load(GatewaySettings))


def moving(settings: GatewaySettings) -> RoomPart:
    """Return how the gateway is exported and imported."""
    return RoomPart(
        room="gateway", database_url=settings.database_url, access=settings, migrations="gateway.migrations"
    )


def _create_key(asked: argparse.Namespace) -> None:
    from gateway.bootstrap.keys import create_key  # noqa: PLC0415  only what is chosen is imported

    grant = KeyGrant(
        tenant=asked.tenant,
        subject=asked.subject,
        roles=frozenset(Role(role) for role in asked.role),
        groups=frozenset(asked.group),
        name=asked.name,
        expires_at=None if asked.expires_days is None else _in_days(asked.expires_days),
        requests_per_minute=asked.requests_per_minute,
        max_concurrent=asked.max_concurrent,
    )
    try:
        sys.stdout.write(asyncio.run(create_key(load(GatewaySettings), grant)) + "\n")
    except BrainError as error:
        raise SystemExit(error.message) from error


def _in_days(days: float) -> datetime:
    try:
        return datetime.now(UTC) + timedelta(days=days)
    except (OverflowError, ValueError) as error:
        raise SystemExit(f"--expires-days: {days:g} is not allowed; the calendar ends with the year 9999.") from error


def _set_quota(asked: argparse.Namespace) -> None:
    from gateway.bootstrap.keys import set_quota  # noqa: PLC0415  only what is chosen is imported

    if asked.tokens_per_day is not None and asked.tokens_per_day < 0:
        raise SystemExit(f"--tokens-per-day: {asked.tokens_per_day} is not allowed; give 0 or more.")
    try:
        asyncio.run(set_quota(load(GatewaySettings), asked.tenant, asked.tokens_per_day))
    except BrainError as error:
        raise SystemExit(error.message) from error
