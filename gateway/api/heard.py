"""What has been heard of a turn while it is answered, whatever the dialect that tells of it."""

from typing import Any

from gateway.api.call import Call
from gateway.domain.asking import (
    Abstention,
    AnswerEvent,
    PassagesChosen,
    QueriesMade,
    Source,
    TurnFinished,
    TurnStarted,
)

__all__ = ["HeardTurn"]


class HeardTurn:
    """Keeps what later events are told with, and writes down what the turn used.

    Args:
        call: The call that the turn is answered for.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.id = ""
        self.model = ""
        self.conversation_id = ""
        self.searches = 0
        self.sources: dict[int, Source] = {}

    def hear(self, event: AnswerEvent) -> None:
        """Take note of an event."""
        match event:
            case TurnStarted():
                self.id, self.model, self.conversation_id = event.response_id, event.model, event.conversation_id
                self._call.touched(event.response_id)
            case QueriesMade():
                self.searches = int(bool(event.queries))
            case PassagesChosen():
                self.sources = {source.number: source for source in event.sources}
            case TurnFinished():
                self._call.spend(self.model, event.usage)
            case _:
                pass

    def beside(self, end: TurnFinished) -> dict[str, Any]:
        """Return what stands beside the answer of a grounded or stored turn: the fields that are ours."""
        abstained = end.abstention is not Abstention.NONE
        fields = {
            "receipt_id": end.receipt_id,
            "conversation_id": self.conversation_id,
            "abstention": end.abstention.name.lower() if abstained else "",
        }
        return {name: value for name, value in fields.items() if value}
