"""A relay that dies between publishing and marking: `python -m tests.faults.mortal_relay DATABASE_URL EVENTS_URL`.

It is ingestion's own relay on ingestion's own outbox and log; only that the process is killed as soon as the log has taken
what was published. Where nothing is pending it ends with status 0.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import cast

from services.chassis.database import Database
from services.chassis.events.log import Envelope, EventLog, open_event_log
from services.chassis.events.outbox import OutboxRelay
from services.ingestion.backends import tables


class _LastWords:
    """The log, as a process meets it that lives no longer than its first success."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def publish(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        await self._log.publish(topic, envelopes)
        os.kill(os.getpid(), signal.SIGKILL)


async def main(database_url: str, events_url: str) -> None:
    database, log = Database(database_url), open_event_log(events_url)
    # A relay asks nothing else of the log.
    relay = OutboxRelay(database=database, table=tables.outbox, log=cast(EventLog, _LastWords(log)))
    await relay.relay_once()
    await log.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
