"""The bodies and query strings of OpenAI's fine-tuning API."""

import re
from typing import Any, Final

from pydantic import Field, model_validator

from gateway.api.bodies import Metadata, SdkBody
from gateway.api.training import TrainingBody
from services.chassis.errors import InvalidInput

__all__ = ["CheckpointsQuery", "EventsQuery", "GraderBody", "GraderRunBody", "JobBody", "JobsQuery"]

_NOTE: Final = re.compile(r"metadata\[(?P<key>.*)\]")
_WITHOUT: Final = "null"


class JobBody(TrainingBody):
    """`POST /v1/fine_tuning/jobs`, with our stages and settings under `brain` (through the SDK's extra_body)."""


class JobsQuery(SdkBody):
    """Which jobs; `metadata[key]=value` for those with a note, `metadata=null` for those without any."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""
    metadata: Metadata | None = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, given: Any) -> Any:
        notes = {found["key"]: value for key, value in given.items() if (found := _NOTE.fullmatch(key))}
        rest = {key: value for key, value in given.items() if not _NOTE.fullmatch(key)}
        if "metadata" in rest:
            if notes or rest["metadata"] not in {_WITHOUT, ""}:
                raise InvalidInput(
                    f"metadata: {rest['metadata']!r} is not allowed; give metadata[key]=value, or metadata=null alone for "
                    "jobs without any.",
                    param="metadata",
                )
            rest["metadata"] = None if rest["metadata"] == _WITHOUT else {}
        else:
            rest["metadata"] = notes
        return rest


class EventsQuery(SdkBody):
    """Which events."""

    limit: int = Field(20, ge=1, le=100)
    after: str = ""


class CheckpointsQuery(SdkBody):
    """Which checkpoints."""

    limit: int = Field(10, ge=1, le=100)
    after: str = ""


class GraderBody(SdkBody):
    """`POST /v1/fine_tuning/alpha/graders/validate`."""

    grader: dict[str, Any]


class GraderRunBody(GraderBody):
    """`POST /v1/fine_tuning/alpha/graders/run`."""

    model_sample: str
    item: dict[str, Any] | None = None
