"""What a judge is asked, and what its answer means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.finetuning.domain.grader_faults import Fault, Ungradable
from services.finetuning.domain.grader_templates import Sample
from services.finetuning.domain.graders import JudgeSampling, LabelModel, ScoreModel

__all__ = ["Judgement", "Question", "TokenCounts", "Turn", "label_score", "question_of", "range_score"]

_SYSTEM: Final = ("system", "developer")
# A prompt of several turns can be longer than any one template.
_MAX_PROMPT_CHARACTERS: Final = 262_144


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked.

    Attributes:
        model: Who judges.
        turns: What it reads.
        json_schema: What its answer must be, as JSON text.
        sampling: How its tokens are drawn.
    """

    model: str
    turns: tuple[Turn, ...]
    json_schema: str
    sampling: JudgeSampling


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one judgement."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge answered.

    Attributes:
        text: The answer.
        model: Who answered.
        complete: Whether it came to its own end.
        tokens: What it took.
    """

    text: str
    model: str
    complete: bool
    tokens: TokenCounts


def question_of(grader: ScoreModel | LabelModel, sample: Sample, item: Mapping[str, Any]) -> Question:
    """Return what the judge is asked about an answer.

    The form of the answer is said in the system turn, which chat templates want first and once, and given to the engine
    as a schema.

    Raises:
        Ungradable: A value that its templates name is missing, or the prompt is too long.
    """
    if isinstance(grader, ScoreModel):
        wanted: dict[str, Any] = {"type": "number", "minimum": grader.low, "maximum": grader.high}
        form = f"NUMBER is from {grader.low:g} to {grader.high:g}"
        name = "NUMBER"
    else:
        wanted = {"type": "string", "enum": list(grader.labels)}
        form = "LABEL is one of " + ", ".join(orjson.dumps(label).decode() for label in grader.labels)
        name = "LABEL"
    order = f'Answer with JSON only, in the form {{"result": {name}}}, where {form}.'
    schema = {"type": "object", "properties": {"result": wanted}, "required": ["result"], "additionalProperties": False}
    written = [Turn(turn.role, turn.render(sample, item)) for turn in grader.turns]
    if sum(len(turn.content) for turn in written) > _MAX_PROMPT_CHARACTERS:
        raise Ungradable(Fault.OTHER, f"The judge's prompt is longer than {_MAX_PROMPT_CHARACTERS} characters.")
    return Question(grader.model, _ordered(written, order), orjson.dumps(schema).decode(), grader.sampling)


def range_score(grader: ScoreModel, judgement: Judgement) -> float:
    """Return the number that a judge gave.

    Raises:
        Ungradable: It gave none, or one out of range.
    """
    result = _result(judgement)
    if isinstance(result, bool) or not isinstance(result, int | float) or not grader.low <= result <= grader.high:
        raise _unread(judgement, f"{{'result': a number from {grader.low:g} to {grader.high:g}}}")
    return float(result)


def label_score(grader: LabelModel, judgement: Judgement) -> float:
    """Return 1 where a judge chose a passing label, else 0.

    Raises:
        Ungradable: It chose none.
    """
    result = _result(judgement)
    if result not in grader.labels:
        raise _unread(judgement, f"{{'result': one of {', '.join(grader.labels)}}}")
    return float(result in grader.passing)


def _ordered(turns: Sequence[Turn], order: str) -> tuple[Turn, ...]:
    """Return the turns as chat templates take them, with one system turn in front that says the form of the answer."""
    first = next((number for number, turn in enumerate(turns) if turn.role not in _SYSTEM), len(turns))
    system = "\n\n".join([*(turn.content for turn in turns[:first]), order])
    rest = [Turn("system" if turn.role in _SYSTEM else turn.role, turn.content) for turn in turns[first:]]
    # An assistant turn in last place would be continued instead of judged, and a system turn alone is no question.
    if not rest or rest[-1].role != "user":
        rest.append(Turn("user", order))
    return (Turn("system", system), *rest)


def _result(judgement: Judgement) -> Any:
    try:
        answer = orjson.loads(judgement.text)
    except orjson.JSONDecodeError:
        return None
    return answer.get("result") if isinstance(answer, dict) else None


def _unread(judgement: Judgement, wanted: str) -> Ungradable:
    ended = "" if judgement.complete else " and ran out of tokens"
    return Ungradable(Fault.JUDGE_PARSE, f"The judge did not answer {wanted}{ended}; it said {judgement.text[:100]!r}.")
