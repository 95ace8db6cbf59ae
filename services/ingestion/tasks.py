"""Jobs that reach the room: reading a version."""

from collections.abc import Awaitable, Callable, Mapping

from services.chassis.jobs.table import Job
from services.ingestion.domain.documents import PARSE_JOB
from services.ingestion.usecases.parsing import ReadVersion

__all__ = ["handlers"]


def handlers(read: ReadVersion) -> Mapping[str, Callable[[Job], Awaitable[None]]]:
    """Return what does each kind of job."""
    return {PARSE_JOB: read}
