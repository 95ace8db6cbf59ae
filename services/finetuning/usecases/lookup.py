"""Finding things under the rights of who asks: what one may not know of does not exist."""

from services.chassis.auth import Caller
from services.chassis.errors import NotFound
from services.finetuning.domain.adapters import AdapterStatus, AdapterVersion
from services.finetuning.domain.jobs import TuningJob
from services.finetuning.domain.owners import may_see
from services.finetuning.ports.records import Reading

__all__ = ["known_adapter", "own_job", "owned_adapter", "usable"]


async def own_job(reading: Reading, caller: Caller, job_id: str) -> TuningJob:
    """Return a job of the caller's; an administrator's are all of the tenant.

    Raises:
        NotFound: There is none.
    """
    job = await reading.job(caller.tenant, job_id)
    if job is None or not may_see(caller, job.owner):
        raise NotFound(f"fine_tuning_job_id: there is no job {job_id[:80]!r}.", param="fine_tuning_job_id")
    return job


def usable(caller: Caller, version: AdapterVersion) -> bool:
    """Return whether a caller may know of an adapter: its audience, its owner, and administrators."""
    return may_see(caller, version.owner) or not set(caller.principals).isdisjoint(version.principals)


async def known_adapter(reading: Reading, caller: Caller, name: str, *, param: str = "name") -> AdapterVersion:
    """Return an adapter that the caller may know of, blocked ones included.

    Raises:
        NotFound: There is none.
    """
    version = await reading.adapter(caller.tenant, name)
    if version is None or version.status is AdapterStatus.DELETED or not usable(caller, version):
        raise NotFound(f"{param}: there is no adapter {name[:140]!r}.", param=param)
    return version


async def owned_adapter(reading: Reading, caller: Caller, name: str) -> AdapterVersion:
    """Return an adapter that the caller may change: its owner, and administrators.

    Raises:
        NotFound: There is none.
    """
    version = await known_adapter(reading, caller, name)
    if not may_see(caller, version.owner):
        raise NotFound(f"name: there is no adapter {name[:140]!r}.", param="name")
    return version
