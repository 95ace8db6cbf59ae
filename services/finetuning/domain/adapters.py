"""The registry: immutable adapter versions, what they learned from, and who may ask them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.chassis.auth import EVERYONE
from services.chassis.errors import InvalidInput
from services.finetuning.domain.owners import Owner

__all__ = [
    "AdapterSource",
    "AdapterStatus",
    "AdapterVersion",
    "Alias",
    "Policy",
    "Withdrawal",
    "adapter_name",
    "audience_of",
    "check_alias",
    "checkpoint_name",
    "is_covered",
]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# The engine takes names of at most 128 characters; the suffix may have 64, id and marks the rest.
_MAX_BASE, _MAX_TENANT = 26, 12


class AdapterStatus(StrEnum):
    """Whether an adapter may be asked."""

    PUBLISHED = "published"
    BLOCKED = "blocked"
    DELETED = "deleted"


class Policy(StrEnum):
    """What happens to an adapter when something that it saw is deleted, or may be read by fewer."""

    BLOCK = "block"
    RETRAIN = "retrain"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """What an adapter learned from.

    Attributes:
        kind: document, feedback or file.
        id: Its id.
        version: Version of the document; 0 otherwise.
        rows: Rows that came from it.
        withdrawn: Whether it is gone, or may be read by fewer than the adapter's audience.
    """

    kind: str
    id: str
    version: int
    rows: int
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One version of an adapter; its weights never change.

    Attributes:
        name: Name it is served under.
        tenant: Tenant.
        suffix: What its versions share.
        number: Version, from 1.
        owner: Who made it.
        created_at: Seconds since 1970.
        status: Whether it may be asked.
        reason_code: Why it is blocked: document_deleted, access_narrowed, by_hand, refused_by_engine.
        reason: The same in words, or why it was accepted.
        revision: Grows with every change.
        config_key: Blob with its configuration.
        weights_key: Blob with its weights.
        weights_digest: SHA-256 of the weights.
        config_digest: SHA-256 of the configuration.
        size_bytes: Size of both.
        rank: Rank.
        base_model: Base model.
        base_digest: SHA-256 over the base model's weight files.
        base_licence: Licence of the base model.
        template_hash: SHA-256 of the chat template.
        parent: Adapter whose training it continued.
        job_id: Job that made it.
        step: Checkpoint step; 0 for the end of the job.
        seed: Seed of its training.
        settings_json: Training settings.
        metrics: Metrics at its end.
        principals: Who may ask it.
    """

    name: str
    tenant: str
    suffix: str
    number: int
    owner: Owner
    created_at: float
    status: AdapterStatus
    config_key: str
    weights_key: str
    weights_digest: str
    config_digest: str
    size_bytes: int
    rank: int
    base_model: str
    base_digest: str
    base_licence: str
    template_hash: str
    parent: str = ""
    job_id: str = ""
    step: int = 0
    seed: int = 0
    settings_json: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    principals: tuple[str, ...] = ()
    reason_code: str = ""
    reason: str = ""
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A document that went, or that fewer may read.

    Attributes:
        document_id: The document.
        deleted: Whether it went.
        principals: Who may still read it, where it did not.
    """

    document_id: str
    deleted: bool
    principals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that leads to an adapter or the base model."""

    alias: str
    tenant: str
    target: str
    moved_at: float
    previous: str = ""
    canary: str = ""
    canary_weight: float = 0.0
    revision: int = 1


def adapter_name(*, base: str, tenant: str, suffix: str, job_id: str) -> str:
    """Return the name under which a job's adapter is served: `ft:<base>:<tenant>:<suffix>:<id>`, as OpenAI forms it."""
    parts = (
        _UNSAFE.sub("-", base).strip("-.")[:_MAX_BASE],
        _UNSAFE.sub("-", tenant).strip("-.")[:_MAX_TENANT],
        _UNSAFE.sub("-", suffix).strip("-."),
        job_id.rpartition("-")[2][-12:],
    )
    return "ft:" + ":".join(parts)


def checkpoint_name(adapter: str, step: int) -> str:
    """Return the name under which a checkpoint is served."""
    return f"{adapter}:ckpt-step-{step}"


def check_alias(alias: str) -> None:
    """Refuse a name that cannot be an alias.

    Raises:
        InvalidInput: It has other characters, or looks like an adapter's name.
    """
    if _ALIAS.fullmatch(alias) is None or alias == "default":
        raise InvalidInput(
            f"alias: {alias[:80]!r} is not allowed; use 1 to 64 letters, digits, dots, dashes and underscores, a letter "
            "or digit first, and not 'default'.",
            param="alias",
        )


def audience_of(wanted: Sequence[str], owner: Owner, documents: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return who may ask an adapter: the wanted principals narrowed to those who may read every document it saw.

    Groups are compared by name only: whether two groups share members is not known here, so that the result may be
    smaller than the true intersection and never larger. The owner, who could read everything, is always part of it.
    """
    audience = set(wanted)
    for principals in documents:
        if EVERYONE in principals:
            continue
        audience = set(principals) if EVERYONE in audience else audience & set(principals)
    return tuple(sorted(audience | {owner.principal}))


def is_covered(version: AdapterVersion, principals: Sequence[str]) -> bool:
    """Return whether everybody who may ask an adapter may read a document with these principals."""
    if EVERYONE in principals:
        return True
    readers = set(principals)
    caller = version.owner.caller(version.tenant)
    if not caller.is_administrator and readers.isdisjoint(caller.principals):
        return False
    return all(principal in readers for principal in version.principals if principal != version.owner.principal)
