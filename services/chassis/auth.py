"""Who is calling: the signed internal token, the caller it carries, and what callers may do.

The gateway authenticates people and mints a token for each request (Ed25519 JWT, RFC 7519 and RFC 8037). Every room
verifies it with the public key and refuses what its policy table does not list.
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
from joserfc.jwk import KeySet, OKPKey

from services.chassis.errors import Unauthenticated

__all__ = [
    "ANYONE",
    "EVERYONE",
    "Caller",
    "Policy",
    "Role",
    "TokenMinter",
    "TokenVerifier",
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
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": caller.subject,
            "ten": caller.tenant,
            "grp": sorted(caller.groups),
            "rol": sorted(caller.roles),
            "iat": now,
            "exp": now + self._lifetime_s,
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._kid}, claims, self._key, algorithms=[_ALGORITHM])


class TokenVerifier:
    """Reads internal tokens.

    Args:
        public_keys: Ed25519 public keys in PEM; more than one while keys rotate.
    """

    def __init__(self, public_keys: Sequence[bytes]) -> None:
        keys = [OKPKey.import_key(pem) for pem in public_keys]
        self._keys = KeySet([OKPKey.import_key(key.as_dict(private=False) | {"kid": key.thumbprint()}) for key in keys])
        self._claims = jwt.JWTClaimsRegistry(
            leeway=5,
            exp={"essential": True},
            sub={"essential": True},
            ten={"essential": True},
        )

    def verify(self, token: str) -> Caller:
        """Return the caller that `token` carries.

        Raises:
            Unauthenticated: The token is malformed, not signed by a known key, or expired.
        """
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[_ALGORITHM])
            self._claims.validate(decoded.claims)
            claims = decoded.claims
            return Caller(
                subject=str(claims["sub"]),
                tenant=str(claims["ten"]),
                groups=frozenset(str(group) for group in claims.get("grp", ())),
                roles=frozenset(Role(role) for role in claims.get("rol", ())),
            )
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("The internal token is not valid.", private=repr(error)) from error
