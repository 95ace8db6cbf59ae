"""Who is calling: the signed internal token, the caller it carries, and what callers may do.

The gateway authenticates people and mints a token for each request (Ed25519 JWT, RFC 7519 and RFC 8037). Every room
verifies it with the public key and refuses what its policy table does not list.

Work in the background outlives the token of whoever asked for it. A worker room therefore has a key of its own, whose
tokens act for the caller who created the work: they are marked with that work (claim `obo`), and a room takes them for
the RPCs that it lists for that worker, under the caller's roles, and for nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OKPKey

from services.chassis.errors import InvalidInput, Unauthenticated

__all__ = [
    "ANYONE",
    "EVERYONE",
    "Bearer",
    "Caller",
    "Delegates",
    "Policy",
    "Role",
    "TokenMinter",
    "TokenVerifier",
    "WorkerMinter",
    "acting_as",
    "at_least",
    "current_caller",
    "current_token",
    "generate_key_pair",
]

# The group that every caller of a tenant belongs to.
EVERYONE: Final = "group:everyone"
_ALGORITHM: Final = "Ed25519"


class Role(StrEnum):
    """What a caller is for. Each role above VIEWER may also do what a viewer may."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    CURATOR = "curator"
    TRAINER = "trainer"
    ADMINISTRATOR = "administrator"


ANYONE: Final = frozenset(Role)
# A trainer keeps training files and therefore may do what a contributor may; documents of others are a curator's.
_ALLOWED: Final[Mapping[Role, frozenset[Role]]] = {
    Role.VIEWER: ANYONE,
    Role.CONTRIBUTOR: frozenset({Role.CONTRIBUTOR, Role.CURATOR, Role.TRAINER, Role.ADMINISTRATOR}),
    Role.CURATOR: frozenset({Role.CURATOR, Role.ADMINISTRATOR}),
    Role.TRAINER: frozenset({Role.TRAINER, Role.ADMINISTRATOR}),
    Role.ADMINISTRATOR: frozenset({Role.ADMINISTRATOR}),
}

# "/brain.retrieval.v1.SearchService/Search" -> roles that may call it. What is not listed is refused.
Policy = Mapping[str, frozenset[Role]]
# Worker room -> full names of the methods that it may call for the callers of its work. What is not listed is refused.
Delegates = Mapping[str, frozenset[str]]


def at_least(role: Role) -> frozenset[Role]:
    """Return the roles that include `role`."""
    return _ALLOWED[role]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `tenant` comes from the verified token only."""

    subject: str
    tenant: str
    groups: frozenset[str] = field(default_factory=frozenset)
    roles: frozenset[Role] = field(default_factory=frozenset)

    @property
    def principals(self) -> tuple[str, ...]:
        """The names under which access lists may know the caller."""
        return (f"user:{self.subject}", *(f"group:{group}" for group in sorted(self.groups)), EVERYONE)

    @property
    def is_administrator(self) -> bool:
        """Whether the caller sees every document of the tenant."""
        return Role.ADMINISTRATOR in self.roles

    def may(self, roles: frozenset[Role]) -> bool:
        """Return whether one of the caller's roles is among `roles`."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a verified token says.

    Attributes:
        caller: Who is served.
        worker: Worker room that signed for the caller; empty for the gateway.
        work: What the worker acts for the caller in, e.g. a job's id; empty where it does not say.
    """

    caller: Caller
    worker: str = ""
    work: str = ""


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_token: ContextVar[str | None] = ContextVar("token", default=None)


def current_caller() -> Caller:
    """Return who is being served.

    Raises:
        Unauthenticated: Outside a request.
    """
    caller = _caller.get()
    if caller is None:
        raise Unauthenticated("No caller: this call carries no verified token.")
    return caller


def current_token() -> str | None:
    """Return the token of the request being served, to be forwarded to the next room."""
    return _token.get()


@contextmanager
def acting_as(caller: Caller, token: str) -> Iterator[None]:
    """Serve `caller` within the block; calls to other rooms forward `token`."""
    caller_mark, token_mark = _caller.set(caller), _token.set(token)
    try:
        yield
    finally:
        _caller.reset(caller_mark)
        _token.reset(token_mark)


def enter(caller: Caller, token: str) -> None:
    """Serve `caller` for the rest of the current task (one task serves one RPC)."""
    _caller.set(caller)
    _token.set(token)


def generate_key_pair() -> tuple[bytes, bytes]:
    """Return a fresh Ed25519 key pair as (private, public) PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class TokenMinter:
    """Signs internal tokens.

    Args:
        private_key_pem: Ed25519 private key.
        issuer: Room that mints, for the audit trail.
        lifetime_s: Seconds a token is good for; as short as the longest request.
    """

    def __init__(self, private_key_pem: bytes, *, issuer: str, lifetime_s: int = 900) -> None:
        self._key = OKPKey.import_key(private_key_pem)
        self._kid = self._key.thumbprint()
        self._issuer = issuer
        self._lifetime_s = lifetime_s

    def mint(self, caller: Caller) -> str:
        """Return a signed token that carries `caller`."""
        return self._signed(caller)

    def _signed(self, caller: Caller, **more: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": caller.subject,
            "ten": caller.tenant,
            "grp": sorted(caller.groups),
            "rol": sorted(caller.roles),
            "iat": now,
            "exp": now + self._lifetime_s,
            **more,
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._kid}, claims, self._key, algorithms=[_ALGORITHM])


class WorkerMinter:
    """Signs tokens with which a worker room acts for the caller who created a piece of work.

    Args:
        private_key_pem: The worker room's own Ed25519 private key.
        worker: Name of the worker room.
        lifetime_s: Seconds a token is good for; as short as the longest call, since a worker mints one for each.
    """

    def __init__(self, private_key_pem: bytes, *, worker: str, lifetime_s: int = 900) -> None:
        self._minter = TokenMinter(private_key_pem, issuer=worker, lifetime_s=lifetime_s)

    def mint(self, caller: Caller, *, work: str) -> str:
        """Return a signed token for `caller`, the stored caller of `work` (e.g. a job's id)."""
        return self._minter._signed(caller, obo=work)  # noqa: SLF001  the same module


class TokenVerifier:
    """Reads internal tokens.

    Args:
        public_keys: Ed25519 public keys (PEM) of the gateway; more than one while keys rotate.
        worker_keys: Worker room -> its Ed25519 public key (PEM).

    Raises:
        InvalidInput: One key is given for two, so that nobody could tell who signed.
    """

    def __init__(self, public_keys: Sequence[bytes], *, worker_keys: Mapping[str, bytes] | None = None) -> None:
        self._keys: dict[str, OKPKey] = {}
        # Thumbprint of a key -> worker room whose key it is; empty for the gateway's.
        self._worker: dict[str, str] = {}
        for pem in public_keys:
            self._know(pem, "")
        for worker, pem in (worker_keys or {}).items():
            self._know(pem, worker)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=5,
            exp={"essential": True},
            sub={"essential": True},
            ten={"essential": True},
        )

    def verify(self, token: str) -> Bearer:
        """Return what `token` carries and who signed it.

        Raises:
            Unauthenticated: The token is malformed, not signed by a known key, or expired.
        """
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM])
            self._claims.validate(decoded.claims)
            claims = decoded.claims
            caller = Caller(
                subject=str(claims["sub"]),
                tenant=str(claims["ten"]),
                groups=frozenset(str(group) for group in claims.get("grp", ())),
                roles=frozenset(Role(role) for role in claims.get("rol", ())),
            )
            work = claims.get("obo")
            return Bearer(caller, self._worker[decoded.header["kid"]], work if isinstance(work, str) else "")
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("The internal token is not valid.", private=repr(error)) from error

    def _know(self, pem: bytes, worker: str) -> None:
        key = OKPKey.import_key(pem)
        kid = key.thumbprint()
        if self._worker.get(kid, worker) != worker:
            both = " and ".join(sorted(repr(name) if name else "the gateway" for name in (self._worker[kid], worker)))
            raise InvalidInput(f"worker_public_key_files: {both} have the same key; give each room one of its own.")
        self._keys[kid] = key
        self._worker[kid] = worker

    def _key_of(self, token: GuestProtocol) -> OKPKey:
        """Return the key that the token says it is signed with; who signed is known by it."""
        return self._keys[token.headers()["kid"]]
