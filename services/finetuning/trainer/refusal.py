"""The one way in which training is refused: a code, and a reason that a person understands."""

from services.finetuning.domain.training_messages import FailureCode

__all__ = ["Refused"]


class Refused(Exception):
    """Training cannot go on, for a reason that is known.

    Args:
        code: Kind of reason.
        message: Public sentence; rows are named by number and never quoted.
    """

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
