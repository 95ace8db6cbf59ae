"""What this room knows of adapters and aliases, however it learned of them; in memory, nothing here waits."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.chassis.auth import EVERYONE, Caller
from services.chassis.errors import BrainError, Conflict, NotFound, PermissionDenied, Unavailable
from services.generation.domain import (
    Adapter,
    AdapterSource,
    AdapterState,
    AliasState,
    Model,
    Refusal,
    Registration,
    in_share,
    may_ask,
)
from services.generation.telemetry import Metrics

__all__ = ["Entry", "Registry", "Resolved", "Standing"]

_RETRY_AFTER_S = 1.0


class Standing(StrEnum):
    """Where an adapter stands with this room."""

    # It may be asked; its files are looked at and loaded before the first answer.
    WAITING = "waiting"
    READY = "ready"
    REFUSED = "refused"
    BLOCKED = "blocked"
    GONE = "gone"


class Entry:
    """One adapter, as published or as registered by hand.

    Attributes:
        state: What was announced; None when it was registered by hand.
        listed: Whether it is shown before its files were looked at: what a restart found was served before.
        trouble: Why the last try to load it failed, when another may succeed.
        leases: Requests that run on it.
        adapter: The adapter in the engine; None while it is not there.
        loading: The task that loads it.
    """

    def __init__(
        self, *, tenant: str, name: str, source: AdapterSource, principals: frozenset[str], created_at: datetime
    ) -> None:
        self.tenant = tenant
        self.name = name
        self.source = source
        self.principals = principals
        self.created_at = created_at
        self.state: AdapterState | None = None
        self.standing = Standing.WAITING
        self.refusal: tuple[Refusal, str] | None = None
        self.listed = False
        self.trouble: BrainError | None = None
        self.leases = 0
        self.adapter: Adapter | None = None
        self.loading: asyncio.Task[None] | None = None

    @classmethod
    def published(cls, state: AdapterState) -> "Entry":
        """Return an entry for what was announced."""
        entry = cls(
            tenant=state.tenant,
            name=state.name,
            source=state.source,
            principals=state.principals,
            created_at=state.created_at,
        )
        entry.state = state
        return entry

    @classmethod
    def by_hand(cls, registration: Registration) -> "Entry":
        """Return an entry for everybody in the tenant."""
        files = registration.files
        return cls(
            tenant=registration.tenant,
            name=registration.name,
            source=AdapterSource(files.config_digest, files.digest, path=files.path),
            principals=frozenset({EVERYONE}),
            created_at=registration.created_at,
        )

    @property
    def revision(self) -> int:
        """Revision of what was announced; 0 for what was registered by hand."""
        return self.state.revision if self.state else 0

    def may_serve(self) -> bool:
        """Whether it is, or can be made, ready."""
        return self.standing in {Standing.WAITING, Standing.READY}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a model name stands for: an adapter, or the base model; and how an alias was decided."""

    entry: Entry | None
    outcome: str = ""


class Registry:
    """All adapters and aliases of all tenants.

    Args:
        base: The base model.
        metrics: Where adapters are counted by state.
    """

    def __init__(self, *, base: Model, metrics: Metrics) -> None:
        self._base = base
        self._metrics = metrics
        self._entries: dict[tuple[str, str], Entry] = {}
        self._aliases: dict[tuple[str, str], AliasState] = {}
        self._withheld: dict[tuple[str, str], int] = {}
        # Set when everything that was announced before the start is known: until then nothing but the base is answered.
        self.known = asyncio.Event()

    def __iter__(self) -> Iterator[Entry]:
        return iter([*self._entries.values()])

    def find(self, tenant: str, name: str) -> Entry | None:
        """Return what is known under a name, gone or not."""
        return self._entries.get((tenant, name))

    def put(self, entry: Entry) -> None:
        """Know an adapter, in the place of what had its name."""
        self._entries[entry.tenant, entry.name] = entry
        self.count()

    def drop(self, entry: Entry) -> None:
        """Forget an adapter."""
        self._entries.pop((entry.tenant, entry.name), None)
        self.count()

    def alias(self, tenant: str, name: str) -> AliasState | None:
        """Return an alias, gone or not."""
        return self._aliases.get((tenant, name))

    def put_alias(self, alias: AliasState) -> None:
        """Know an alias."""
        self._aliases[alias.tenant, alias.alias] = alias

    def withhold(self, tenant: str, name: str, revision: int) -> None:
        """Refuse an adapter up to a revision."""
        self._withheld[tenant, name] = max(revision, self._withheld.get((tenant, name), 0))
        self.count()

    def lift(self, tenant: str, name: str) -> bool:
        """Withhold an adapter no longer; return whether it was withheld."""
        lifted = self._withheld.pop((tenant, name), None) is not None
        self.count()
        return lifted

    def is_withheld(self, entry: Entry) -> bool:
        """Return whether an adapter is refused until its owner has decided about it."""
        return self._withheld.get((entry.tenant, entry.name), -1) >= entry.revision

    def withheld_until(self, tenant: str, name: str) -> int | None:
        """Return the revision up to which a name is withheld; None when it is not."""
        return self._withheld.get((tenant, name))

    def resolve(self, caller: Caller, model: str) -> Resolved:
        """Return what `model` stands for when `caller` names it: a model first, then an alias.

        A canary that cannot answer, whatever the reason, takes no share: the alias's own target answers. A target that
        cannot answer is an error: nobody is handed another model than the one that the alias leads to.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
            Unavailable: It is not known yet what may be served.
        """
        if model in {"", self._base.name}:
            return Resolved(None)
        if not self.known.is_set():
            raise Unavailable("The adapters are not known yet.", retry_after_s=_RETRY_AFTER_S)
        entry = self._entries.get((caller.tenant, model))
        if entry is not None and entry.standing is not Standing.GONE:
            self.check(caller, entry)
            return Resolved(entry)
        alias = self._aliases.get((caller.tenant, model))
        if alias is None or not alias.target:
            raise _unknown(model)
        outcome = "target"
        if alias.canary and in_share(caller.tenant, alias.alias, caller.subject, alias.canary_weight):
            try:
                return Resolved(self._led(caller, alias.canary), "canary")
            except BrainError:
                outcome = "instead_of_canary"
        try:
            return Resolved(self._led(caller, alias.target), outcome)
        except NotFound as error:
            raise _unknown(model) from error
        except (PermissionDenied, Conflict) as error:
            led = error.message.removeprefix("model: ")
            raise type(error)(
                f"model: the alias {model!r} leads to a model that cannot answer: {led}", param="model"
            ) from error

    def check(self, caller: Caller, entry: Entry) -> None:
        """Return if the caller may ask an adapter now.

        Raises:
            NotFound: It is gone, or not for this caller.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
        """
        if entry.standing is Standing.GONE or not may_ask(caller, entry.tenant, entry.principals):
            raise _unknown(entry.name)
        if entry.standing is Standing.BLOCKED:
            reason = entry.state.reason if entry.state else ""
            raise PermissionDenied(f"model: {entry.name!r} is blocked ({reason or 'no reason given'}).", param="model")
        if self.is_withheld(entry):
            raise PermissionDenied(
                f"model: {entry.name!r} is withheld until it is decided whether it may still answer.", param="model"
            )
        if entry.standing is Standing.REFUSED:
            code, reason = entry.refusal or (Refusal.CRASHED, "")
            raise Conflict(f"model: {entry.name!r} cannot be served ({code}): {reason}", param="model")

    def visible(self, caller: Caller) -> list[Entry]:
        """Return the adapters that the caller may ask, oldest first."""
        return sorted(
            (it for it in self._entries.values() if self._is_listed(it) and may_ask(caller, it.tenant, it.principals)),
            key=lambda it: (it.created_at, it.name),
        )

    def visible_aliases(self, caller: Caller) -> list[AliasState]:
        """Return the aliases that lead to what the caller may ask; one that has a model's name is none."""
        names = {self._base.name, *(entry.name for entry in self.visible(caller))}
        return sorted(
            (
                it
                for (tenant, name), it in self._aliases.items()
                if tenant == caller.tenant and it.target in names and not self.is_model(tenant, name)
            ),
            key=lambda it: it.alias,
        )

    def is_model(self, tenant: str, name: str) -> bool:
        """Return whether a name is the base model's or an adapter's."""
        entry = self._entries.get((tenant, name))
        return name == self._base.name or (entry is not None and entry.standing is not Standing.GONE)

    def count(self) -> None:
        """Show how many adapters there are in each state."""
        counted = Counter("withheld" if it.may_serve() and self.is_withheld(it) else it.standing.value for it in self)
        for state in (*(it.value for it in Standing if it is not Standing.GONE), "withheld"):
            self._metrics.adapters.labels(state=state).set(counted[state])

    def _led(self, caller: Caller, name: str) -> Entry | None:
        """Return the model that an alias leads to; None for the base model."""
        if name == self._base.name:
            return None
        entry = self._entries.get((caller.tenant, name))
        if entry is None:
            raise _unknown(name)
        self.check(caller, entry)
        return entry

    def _is_listed(self, entry: Entry) -> bool:
        ready = entry.standing is Standing.READY or (entry.standing is Standing.WAITING and entry.listed)
        return ready and not self.is_withheld(entry)


def _unknown(model: str) -> NotFound:
    return NotFound(f"model: there is no model {model[:140]!r}.", param="model")
