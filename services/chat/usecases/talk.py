"""A question with what was said before it."""

from dataclasses import dataclass

from services.chassis.auth import Caller
from services.chat.domain.receipts import Conversation
from services.chat.domain.turn import Message, Question


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with what was stored before it."""

    question: Question
    caller: Caller
    response_id: str
    conversation: Conversation | None
    history: tuple[Message, ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, oldest first."""
        return (*self.history, *self.question.messages)

    @property
    def conversation_id(self) -> str:
        """Id of the stored conversation; empty when the turn is not stored."""
        return self.conversation.id if self.conversation else ""


def instructions_of(turn: Turn) -> str:
    """Return the system turns of the application as one text."""
    return "\n\n".join(message.content for message in turn.messages if message.role == "system")
