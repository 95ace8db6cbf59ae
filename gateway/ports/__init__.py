"""What the gateway needs from the world: the rooms, and its own memory.

Calls to rooms are made for the caller of the request being served, under that caller's rights, and raise members of
`services.chassis.errors`; what the caller may not know of is NotFound.
"""

from gateway.ports.counting import Counters, Drawn
from gateway.ports.judging import Feedback
from gateway.ports.memory import Answers, Audit, Keys, Meter
from gateway.ports.rooms import Chat, Generation, Ingestion, Probe, Retrieval, Withdrawal
from gateway.ports.tuning import Adapters, Datasets, Graders, Jobs, Promotions, Webhooks

__all__ = [
    "Adapters",
    "Answers",
    "Audit",
    "Chat",
    "Counters",
    "Datasets",
    "Drawn",
    "Feedback",
    "Generation",
    "Graders",
    "Ingestion",
    "Jobs",
    "Keys",
    "Meter",
    "Probe",
    "Promotions",
    "Retrieval",
    "Webhooks",
    "Withdrawal",
]
