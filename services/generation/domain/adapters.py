"""Models that can be asked: the base model, the adapters beside it, and what is known of each."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput

__all__ = [
    "MAX_REVISION",
    "Adapter",
    "AdapterFiles",
    "AdapterLimits",
    "AdapterSource",
    "AdapterState",
    "AdapterStatus",
    "Model",
    "Refusal",
    "Registration",
    "check_adapter_name",
    "check_blob_key",
    "check_digest",
    "may_ask",
]

# A name as `ft:<base>:<tenant>:<suffix>:<id>`, where the base may be a hub's `owner/name`.
_NAME: Final = re.compile(r"[a-zA-Z0-9][\w:.@/-]{0,255}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_KEY: Final = 1024
# What every database keeps as a whole number.
MAX_REVISION: Final = (1 << 63) - 1


class AdapterStatus(StrEnum):
    """Whether an adapter may be asked, as its owner says."""

    PUBLISHED = "published"
    BLOCKED = "blocked"
    DELETED = "deleted"


class Refusal(StrEnum):
    """Why this room does not serve an adapter that was published."""

    ANNOUNCEMENT = "announcement"
    DIGEST = "digest"
    MISSING = "missing"
    FILES = "files"
    TOO_LARGE = "too_large"
    BASE = "base_digest"
    TEMPLATE = "template_hash"
    ENGINE = "engine"
    NO_EFFECT = "no_effect"
    NOT_FINITE = "not_finite"
    ENGINE_DIED = "engine_died"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """What the engine can take.

    Attributes:
        modules: Last parts of the names of the layers that may be adapted.
        max_rank: Largest rank.
        max_bytes: Largest weights file.
    """

    modules: frozenset[str]
    max_rank: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked.

    Attributes:
        name: How requests choose it.
        context_window: Tokens that prompt and output may have together.
        engine: vllm or scripted.
        created_at: Since when it is there.
        parent: The base model's name when this is an adapter, what it leads to when it is an alias.
        alias: Whether this is an alias.
        base_digest: SHA-256 over the base model's weight files; empty where there are none.
        template_hash: SHA-256 of the chat template; empty where there is none.
        limits: What adapters may be; of the base model only.
    """

    name: str
    context_window: int
    engine: str
    created_at: datetime
    parent: str = ""
    alias: bool = False
    base_digest: str = ""
    template_hash: str = ""
    limits: AdapterLimits | None = None


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What the inspection of an adapter directory found.

    Attributes:
        path: The directory.
        digest: SHA-256 of the weights.
        config_digest: SHA-256 of the configuration.
        rank: Rank of the adapter.
        size_bytes: Size of both files.
    """

    path: str
    digest: str
    config_digest: str
    rank: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """Where an adapter's files come from, and what they must be: two blobs, or a directory that was put here by hand.

    Attributes:
        config_digest: SHA-256 of adapter_config.json.
        weights_digest: SHA-256 of adapter_model.safetensors.
        config_key: Blob with the configuration.
        weights_key: Blob with the weights.
        path: Directory; empty where the files are blobs.
    """

    config_digest: str
    weights_digest: str
    config_key: str = ""
    weights_key: str = ""
    path: str = ""

    @property
    def content(self) -> str:
        """Name of these very files: equal for equal files, wherever they come from."""
        return f"{self.weights_digest}-{self.config_digest}"


@dataclass(frozen=True, slots=True)
class AdapterState:
    """What was announced of an adapter version; a state with a higher revision replaces it.

    Attributes:
        tenant: Whose it is.
        name: Name to serve it under.
        status: Whether it may be asked.
        source: Its files.
        base_digest: SHA-256 over the weights that it was trained on; empty where it is not known.
        template_hash: SHA-256 of the chat template of its rows; empty where it is not known.
        principals: Who may ask it; nobody but administrators where it is empty.
        created_at: When it was published.
        revision: Grows with every change.
        reason: Why it is blocked, as a code.
    """

    tenant: str
    name: str
    status: AdapterStatus
    source: AdapterSource
    base_digest: str
    template_hash: str
    principals: frozenset[str]
    created_at: datetime
    revision: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Registration:
    """An adapter that was registered by hand, with the directory that it lies in."""

    tenant: str
    name: str
    files: AdapterFiles
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in the engine; `number` is unique as long as the engine runs and names it there."""

    number: int
    tenant: str
    name: str
    files: AdapterFiles


def may_ask(caller: Caller, tenant: str, principals: frozenset[str]) -> bool:
    """Return whether the caller may know of, and ask, an adapter of `tenant` that is for `principals`."""
    if caller.tenant != tenant:
        return False
    return caller.is_administrator or not principals.isdisjoint(caller.principals)


def check_adapter_name(name: str, base: str) -> None:
    """Refuse names that cannot be served.

    Raises:
        InvalidInput: The name is malformed or the base model's.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"name: {name[:140]!r} is not allowed; use 1 to 256 of letters, digits and _ : . @ / -, beginning with a "
            "letter or digit.",
            param="name",
        )
    if name == base:
        raise InvalidInput(f"name: {name!r} is the base model's own name.", param="name")


def check_digest(digest: str, param: str) -> None:
    """Refuse what is no SHA-256: it becomes a part of a path.

    Raises:
        InvalidInput: It is not 64 hexadecimal digits in lower case.
    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"{param}: {digest[:80]!r} is no SHA-256 in lower-case hexadecimal digits.", param=param)


def check_blob_key(key: str, tenant: str, param: str) -> None:
    """Refuse keys of blobs that are not the tenant's own.

    Raises:
        InvalidInput: The key is malformed or begins with another folder than the tenant's.
    """
    folder, *rest = key.split("/")
    plain = key.isprintable() and len(key) <= _MAX_KEY and all(part not in {"", ".", ".."} for part in rest)
    if not plain or not rest or folder != tenant:
        raise InvalidInput(f"{param}: {key[:140]!r} is not allowed; use the key of a blob of your tenant.", param=param)
