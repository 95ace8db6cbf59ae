"""Who a job, dataset or adapter belongs to, kept beyond the request that made it."""

from dataclasses import dataclass

from services.chassis.auth import Caller, Role

__all__ = ["Owner", "may_see"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A caller as the room remembers it."""

    subject: str
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @classmethod
    def of(cls, caller: Caller) -> "Owner":
        """Return the caller as it is remembered."""
        return cls(caller.subject, tuple(sorted(caller.groups)), tuple(sorted(caller.roles)))

    def caller(self, tenant: str) -> Caller:
        """Return the caller in whose name the room acts."""
        return Caller(self.subject, tenant, frozenset(self.groups), frozenset(Role(role) for role in self.roles))

    @property
    def principal(self) -> str:
        """The name under which access lists may know the owner."""
        return f"user:{self.subject}"


def may_see(caller: Caller, owner: Owner) -> bool:
    """Return whether a caller may know of what `owner` owns: its own, and an administrator everything of the tenant."""
    return caller.is_administrator or caller.subject == owner.subject
