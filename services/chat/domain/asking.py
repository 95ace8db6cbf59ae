"""What may be asked in one turn."""

from typing import Final

from services.chassis.errors import InvalidInput
from services.chat.domain.turn import Question

__all__ = ["check"]

_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_MOST_MESSAGES: Final = 1_000


def check(question: Question) -> None:
    """Let pass what can be answered.

    Raises:
        InvalidInput: The request contradicts itself; `param` names the field.
    """
    if not question.messages:
        raise InvalidInput("messages is empty; it must end in a user turn.", param="messages")
    if len(question.messages) > _MOST_MESSAGES:
        raise InvalidInput(
            f"messages holds {len(question.messages)} turns; at most {_MOST_MESSAGES}.", param="messages"
        )
    for position, message in enumerate(question.messages):
        if message.role not in _ROLES:
            raise InvalidInput(
                f"messages[{position}].role is {message.role!r}; allowed are {', '.join(sorted(_ROLES))}.",
                param=f"messages[{position}].role",
            )
    last = question.messages[-1]
    if last.role != "user" or not last.content.strip():
        raise InvalidInput("messages must end in a user turn that says something.", param="messages")
    if question.grounded and question.sampling.n > 1:
        raise InvalidInput(f"n is {question.sampling.n}; with documents or collections only 1 is allowed.", param="n")
