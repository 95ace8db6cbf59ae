"""GraderService."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from brain.finetuning.v1 import grader_pb2
from services.chassis.errors import InvalidInput, TooLarge
from services.finetuning.domain.grader_documents import document_of, parse_grader
from services.finetuning.domain.grader_templates import MAX_DEPTH, is_shallow
from services.finetuning.usecases.grading import GradeAnswer

__all__ = ["GraderServicer"]

# A long answer, and a row with the passages that it was given.
_MAX_SAMPLE_CHARACTERS: Final = 131_072
_MAX_ITEM_CHARACTERS: Final = 262_144


class GraderServicer:
    """Graders over gRPC.

    Args:
        grade: Runs a grader.
    """

    def __init__(self, grade: GradeAnswer) -> None:
        self._grade = grade

    async def ValidateGrader(
        self, request: grader_pb2.ValidateGraderRequest, context: object
    ) -> grader_pb2.ValidateGraderResponse:
        """Check a grader and return it with its defaults."""
        document = document_of(parse_grader(request.grader_json))
        return grader_pb2.ValidateGraderResponse(grader_json=orjson.dumps(document).decode())

    async def RunGrader(self, request: grader_pb2.RunGraderRequest, context: object) -> grader_pb2.RunGraderResponse:
        """Grade one answer."""
        grader = parse_grader(request.grader_json)
        _check_length("model_sample", request.model_sample, _MAX_SAMPLE_CHARACTERS)
        found = await self._grade.run(grader, request.model_sample, _item(request.item_json))
        return grader_pb2.RunGraderResponse(
            reward=found.reward,
            sub_rewards=dict(found.sub_rewards),
            metadata_json=orjson.dumps(found.metadata).decode(),
        )


def _item(text: str) -> Mapping[str, Any]:
    _check_length("item", text, _MAX_ITEM_CHARACTERS)
    if not text:
        return {}
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"item: it is not JSON ({error}).", param="item") from error
    if not isinstance(item, dict):
        raise InvalidInput("item: it is not a JSON object.", param="item")
    if not is_shallow(item):
        raise InvalidInput(f"item: it nests deeper than {MAX_DEPTH}.", param="item")
    return item


def _check_length(param: str, text: str, most: int) -> None:
    if len(text) > most:
        raise TooLarge(f"{param}: {len(text)} characters are more than {most}.", param=param)
