"""What can go wrong while one answer is graded, by the names that OpenAI's answer has for it."""

from enum import StrEnum
from typing import Final

__all__ = ["EXPLAINED", "Fault", "Ungradable"]


class Fault(StrEnum):
    """Kind of failure: a flag of the answer's metadata."""

    FORMULA = "formula_parse_error"
    SAMPLE = "sample_parse_error"
    TRUNCATED = "truncated_observation_error"
    UNRESPONSIVE = "unresponsive_reward_error"
    VARIABLE = "invalid_variable_error"
    OTHER = "other_error"
    CODE_SERVER = "python_grader_server_error"
    CODE_RUNTIME = "python_grader_runtime_error"
    JUDGE_SERVER = "model_grader_server_error"
    JUDGE_REFUSAL = "model_grader_refusal_error"
    JUDGE_PARSE = "model_grader_parse_error"


# Flags that OpenAI's answer explains in a field of their own, with what it ends in.
EXPLAINED: Final = {
    Fault.CODE_SERVER: "_type",
    Fault.CODE_RUNTIME: "_details",
    Fault.JUDGE_SERVER: "_details",
}


class Ungradable(Exception):
    """An answer could not be graded.

    Args:
        fault: Kind of failure.
        reason: Sentence for a person: what is missing, and what is there.
        of_sample: Whether the answer itself is at fault; else the grader or the row is.
    """

    def __init__(self, fault: Fault, reason: str, *, of_sample: bool = False) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.of_sample = of_sample
