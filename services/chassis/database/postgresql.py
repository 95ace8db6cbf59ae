"""PostgreSQL: a schema of its own for each room, through asyncpg."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from sqlalchemy import pool
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.chassis.certificates import CertificateFiles, RenewedContext
from services.chassis.errors import BrainError, InvalidInput, Unavailable
from services.chassis.settings import RoomSettings

__all__ = ["Address", "open_engine", "translated"]

# An address that takes nobody is given up after this: callers wait no longer, and a good one takes milliseconds.
_CONNECT_TIMEOUT_S: Final = 5.0
# Who waits longer for another transaction's rows is turned away: what holds them takes milliseconds, or a copy of a large
# file in the blob store.
_LOCK_TIMEOUT_S: Final = 10.0
# No statement of ours takes longer; the server ends it and its locks.
_STATEMENT_TIMEOUT_S: Final = 20.0
# After this the server itself is taken for gone (frozen, or behind a network that drops packets): longer than it would take
# to say that the statement took too long.
_ANSWER_TIMEOUT_S: Final = 25.0
# A process that falls silent within a transaction holds rows that others wait for; the longest that is done within one is
# to wait for the event log or to copy a large file in the blob store.
_IDLE_IN_TRANSACTION_TIMEOUT_S: Final = 60.0
# Connections of one process that stay open, and those it may add for a moment: transactions are short, and of the usual
# 100 that a server takes, six rooms with a few replicas each must all have theirs.
_POOL_SIZE: Final = 5
_POOL_OVERFLOW: Final = 5
# How long a call waits for one of them.
_POOL_TIMEOUT_S: Final = 10.0

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Classes and codes of SQLSTATE that say: not now. 08 connection, 25006 read-only (a standby after a failover), 25P idle for too
# long, 40 rolled back for another's sake (deadlock), 53 no room (connections, memory, disk), 55P03 lock not to be had,
# 57 an operator or a timeout, 58 system.
_NOT_NOW: Final = ("08", "25006", "25P", "40", "53", "55P03", "57", "58")
# The text holds what no text of PostgreSQL may hold: the character NUL, as it is or escaped in JSON.
_NO_TEXT: Final = frozenset({"22021", "22P05"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a room's tables are.

    Attributes:
        dsn: What libpq and asyncpg know as a connection URI: user, hosts, database, `sslmode`, `passfile` …
        schema: The room's schema.
        context: Certificates of TLS; None for what `dsn` says. New connections use the files of their moment.
        password_file: Where the password stands; None for what `dsn` says.
    """

    dsn: str
    schema: str
    context: ssl.SSLContext | None = None
    password_file: Path | None = None

    @classmethod
    def parse(cls, url: str, access: RoomSettings | None = None) -> "Address":
        """Return the address that `postgresql://user@host/database?schema=room` names; without `schema` it is `public`.

        Args:
            url: The address.
            access: Certificates and password; None for none but what the address says.

        Raises:
            InvalidInput: There is no host or database, the schema is none, a file is not what it should be, or the address
                says about TLS what the settings say, too.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = options.pop("schema", "public")
        if not _SCHEMA.fullmatch(schema):
            raise InvalidInput(f"database_url: schema {schema!r} is none; use lower-case letters, digits and _.")
        if not parts.netloc or parts.path in {"", "/"}:
            raise InvalidInput("database_url: use postgresql://USER@HOST/DATABASE?schema=SCHEMA.")
        dsn = urlunsplit(parts._replace(query=urlencode(options)))
        if access is None:
            return cls(dsn, schema)
        files = CertificateFiles.of(access, "database")
        twice = sorted(name for name in options if name.startswith("ssl"))
        if files and twice:
            raise InvalidInput(
                f"database_url: leave {', '.join(twice)} out where database_ca_file or database_cert_file is given; "
                "certificates and names are checked (verify-full)."
            )
        return cls(dsn, schema, RenewedContext(files) if files else None, access.database_password_file)

    def password(self) -> str | None:
        """Return the password of this moment; None for what `dsn` says.

        Raises:
            OSError: The file cannot be read.
        """
        return self.password_file.read_text().strip() if self.password_file else None


def open_engine(address: Address, *, hurried: bool = True) -> AsyncEngine:
    """Return an engine on a schema; nothing connects yet.

    Args:
        address: Where the tables are.
        hurried: Statements and waits end after their time; a migration takes as long as it takes.
    """
    settings = {"application_name": f"brain {address.schema}", "search_path": address.schema, "timezone": "UTC"}
    answer_timeout_s: float | None = None
    options: dict[str, Any] = {"poolclass": pool.NullPool}
    if hurried:
        answer_timeout_s = _ANSWER_TIMEOUT_S
        settings |= {
            "lock_timeout": _ms(_LOCK_TIMEOUT_S),
            "statement_timeout": _ms(_STATEMENT_TIMEOUT_S),
            "idle_in_transaction_session_timeout": _ms(_IDLE_IN_TRANSACTION_TIMEOUT_S),
        }
        options = {
            # A server that was started again is not noticed by who asks next.
            "pool_pre_ping": True,
            "pool_size": _POOL_SIZE,
            "max_overflow": _POOL_OVERFLOW,
            "pool_timeout": _POOL_TIMEOUT_S,
        }

    async def connect() -> asyncpg.Connection:
        return await _connected(address, settings, answer_timeout_s)

    # Errors are logged, and parameters are what people wrote.
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)


async def _connected(
    address: Address, settings: Mapping[str, str], answer_timeout_s: float | None
) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(
            address.dsn,
            password=address.password(),
            ssl=address.context,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=answer_timeout_s,
            server_settings=dict(settings),
        )
    except OSError as error:
        # Before ValueError, which a certificate that is not taken is, too.
        raise _unavailable(error) from error
    except ValueError as error:
        # What asyncpg says of it may hold a piece of the password.
        raise InvalidInput(
            "database_url: its host, port or an option is none; use postgresql://USER@HOST:PORT/DATABASE?schema=SCHEMA."
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _unavailable(error) from error


def translated(context: ExceptionContext) -> BrainError | None:
    """Return the error of ours that a driver's error stands for; None when it is a fault of ours."""
    error = context.original_exception
    # Ours already, or somebody's cancellation, which SQLAlchemy takes for the loss of the connection.
    if isinstance(error, BrainError) or not isinstance(error, Exception):
        return None
    code = getattr(error, "sqlstate", None) or ""
    if code in _NO_TEXT:
        return InvalidInput(
            "A text holds the character NUL, which no text may hold; leave it out.", private=repr(error)
        )
    if isinstance(error, OSError | TimeoutError):
        # Whether the connection still works is not known; those of others may be well.
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = not isinstance(error, TimeoutError)
        return _unavailable(error)
    if context.is_disconnect or code.startswith(_NOT_NOW):
        return _unavailable(error)
    return None


def _unavailable(error: BaseException) -> Unavailable:
    return Unavailable("The database is not available.", private=repr(error), retry_after_s=1.0)


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
