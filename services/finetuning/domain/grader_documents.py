"""Graders as JSON: read with limits and errors that name the field, written with their defaults.

Explicit nulls mean "not given", and fields that are not known are left out: SDKs are newer or older than we are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from services.chassis.errors import InvalidInput, TooLarge
from services.finetuning.domain.grader_formula import FUNCTIONS, parse_formula
from services.finetuning.domain.grader_scores import Metric, StringOperation
from services.finetuning.domain.grader_templates import is_shallow, parse_template
from services.finetuning.domain.graders import (
    Grader,
    JudgeSampling,
    JudgeTurn,
    LabelModel,
    Multi,
    Part,
    ScoreModel,
    SingleGrader,
    StringCheck,
    TextSimilarity,
)

__all__ = ["document_of", "grader_of", "parse_grader"]

_MAX_GRADER_CHARACTERS: Final = 131_072
_MAX_GRADERS: Final = 16
_MAX_TURNS: Final = 32
_MAX_PARTS: Final = 16
_MAX_LABELS: Final = 64
_MAX_NAME: Final = 128
_MAX_JUDGE_TOKENS: Final = 4_096

_SINGLE: Final = ("string_check", "text_similarity", "score_model", "label_model")
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXT_KINDS: Final = ("input_text", "output_text")
_OTHER_KINDS: Final = ("input_image", "input_audio")
# What OpenAI has beside them.
_METEOR: Final = "meteor"


def parse_grader(text: str, *, param: str = "grader") -> Grader:
    """Read a grader.

    Raises:
        InvalidInput: It is none, or holds what is not offered; the message names the field and what is.
        TooLarge: It is too long.
    """
    if len(text) > _MAX_GRADER_CHARACTERS:
        raise TooLarge(f"{param}: {len(text)} characters are more than {_MAX_GRADER_CHARACTERS}.", param=param)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{param}: it is not JSON ({error}).", param=param) from error
    return grader_of(value, param=param)


def grader_of(value: Any, *, param: str = "grader") -> Grader:
    """Read a grader that is decoded already, as part of a job's method.

    Raises:
        InvalidInput: It is none, or holds what is not offered; the message names the field and what is.
    """
    fields = _Fields(value, param)
    if not is_shallow(value):
        raise InvalidInput(f"{param}: it nests too deeply.", param=param)
    if fields.get("type") == "multi":
        return _multi(fields)
    return _single(fields, named=None, allowed=(*_SINGLE, "multi"))


def document_of(grader: Grader) -> dict[str, Any]:
    """Return a grader as JSON values, with its defaults."""
    document: dict[str, Any] = {"type": grader.type, "name": grader.name}
    match grader:
        case StringCheck():
            document |= {"input": grader.input.text, "reference": grader.reference.text}
            document["operation"] = grader.operation.value
        case TextSimilarity():
            document |= {"input": grader.input.text, "reference": grader.reference.text}
            document["evaluation_metric"] = grader.metric.value
        case ScoreModel():
            document |= _judge_document(grader) | {"range": [grader.low, grader.high]}
        case LabelModel():
            document |= _judge_document(grader)
            document |= {"labels": list(grader.labels), "passing_labels": list(grader.passing)}
        case Multi():
            document["graders"] = {name: document_of(single) for name, single in grader.graders.items()}
            document["calculate_output"] = grader.formula.text
    return document


class _Fields:
    """A JSON object that is being read."""

    def __init__(self, value: Any, param: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{param}: it is not a JSON object.", param=param)
        self._value: Mapping[str, Any] = value
        self.param = param

    def at(self, name: str) -> str:
        return f"{self.param}.{name}"

    def get(self, name: str) -> Any:
        return self._value.get(name)

    def needed(self, name: str) -> Any:
        value = self._value.get(name)
        if value is None:
            raise InvalidInput(f"{self.at(name)}: this field is required.", param=self.at(name))
        return value

    def text(self, name: str, *, most: int | None = None) -> str:
        value = self.needed(name)
        if not isinstance(value, str) or not value:
            raise self.refused(name, value, "a text that is not empty")
        if most is not None and len(value) > most:
            raise InvalidInput(f"{self.at(name)}: {len(value)} characters are more than {most}.", param=self.at(name))
        return value

    def template(self, name: str) -> Any:
        value = self.needed(name)
        if not isinstance(value, str):
            raise self.refused(name, value, "a text")
        return parse_template(value, param=self.at(name))

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        value = self.needed(name)
        if value not in allowed:
            raise self.refused(name, value, ", ".join(allowed))
        return str(value)

    def items(self, name: str, *, most: int) -> list[Any]:
        value = self.needed(name)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise self.refused(name, value, f"a list of 1 to {most} entries")
        return value

    def number(self, name: str, default: float, *, low: float, high: float, open_below: bool = False) -> float:
        value = self.get(name)
        if value is None:
            return default
        if not _is_number(value) or not low <= value <= high or (open_below and value == low):
            raise self.refused(name, value, f"a number {'above' if open_below else 'from'} {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, default: int | None, *, low: int, high: int) -> int | None:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.refused(name, value, f"a whole number from {low} to {high}")
        return value

    def refused(self, name: str, value: Any, allowed: str) -> InvalidInput:
        param = self.at(name)
        return InvalidInput(f"{param}: {_shown(value)} is not allowed; use {allowed}.", param=param)


def _multi(fields: _Fields) -> Multi:
    name = "multi" if fields.get("name") is None else fields.text("name", most=_MAX_NAME)
    graders = dict(_parts_of_multi(fields))
    formula = parse_formula(fields.text("calculate_output"), graders, param=fields.at("calculate_output"))
    return Multi(name, graders, formula)


def _parts_of_multi(fields: _Fields) -> Sequence[tuple[str, SingleGrader]]:
    """Return the graders by the names that the formula has for them."""
    value, param = fields.needed("graders"), fields.at("graders")
    # OpenAI's guide writes an object of graders by name; its SDK's types say one grader.
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        value = {value["name"] if isinstance(value.get("name"), str) else "": value}
    if not isinstance(value, dict) or not 1 <= len(value) <= _MAX_GRADERS:
        raise fields.refused("graders", value, f"an object of 1 to {_MAX_GRADERS} graders by name")
    for name in value:
        if not name.isidentifier() or name in FUNCTIONS or len(name) > _MAX_NAME:
            raise InvalidInput(
                f"{param}: a formula cannot name {name[:64]!r}; use letters, digits and _, and none of "
                f"{', '.join(FUNCTIONS)}.",
                param=param,
            )
    return [(name, _single(_Fields(one, f"{param}.{name}"), named=name)) for name, one in value.items()]


def _single(fields: _Fields, *, named: str | None, allowed: Sequence[str] = _SINGLE) -> SingleGrader:
    """Read a grader that is no multi.

    Args:
        fields: What is read.
        named: Its name where it has none of its own; None where it must have one.
        allowed: Types to name in an error.
    """
    kind = fields.needed("type")
    if kind == "python":
        raise InvalidInput(
            f"{fields.at('type')}: 'python' is not offered, no code of callers is run; use {', '.join(allowed)}.",
            param=fields.at("type"),
        )
    if kind not in _SINGLE:
        raise fields.refused("type", kind, ", ".join(allowed))
    name = named if named is not None and fields.get("name") is None else fields.text("name", most=_MAX_NAME)
    match kind:
        case "string_check":
            operation = StringOperation(fields.choice("operation", list(StringOperation)))
            return StringCheck(name, fields.template("input"), fields.template("reference"), operation)
        case "text_similarity":
            return TextSimilarity(name, fields.template("input"), fields.template("reference"), _metric(fields))
        case "score_model":
            return _score_model(fields, name)
        case _:
            return _label_model(fields, name)


def _metric(fields: _Fields) -> Metric:
    offered = ", ".join(Metric)
    if fields.get("evaluation_metric") == _METEOR:
        raise InvalidInput(
            f"{fields.at('evaluation_metric')}: 'meteor' is not offered, it needs the WordNet data; use {offered}.",
            param=fields.at("evaluation_metric"),
        )
    return Metric(fields.choice("evaluation_metric", list(Metric)))


def _score_model(fields: _Fields, name: str) -> ScoreModel:
    given = fields.get("range")
    if given is None:
        given = [0.0, 1.0]
    # Beyond this, neighbouring scores are the same number.
    if (
        not isinstance(given, list)
        or len(given) != 2
        or not all(_is_number(bound) and abs(bound) <= 1e9 for bound in given)
        or given[0] >= given[1]
    ):
        raise fields.refused("range", given, "two numbers, the lower one first")
    low, high = (float(bound) for bound in given)
    return ScoreModel(name, fields.text("model", most=_MAX_NAME), _turns(fields), low, high, _sampling(fields))


def _label_model(fields: _Fields, name: str) -> LabelModel:
    labels, passing = _labels(fields, "labels"), _labels(fields, "passing_labels")
    for label in passing:
        if label not in labels:
            raise fields.refused("passing_labels", label, "labels of `labels`")
    return LabelModel(name, fields.text("model", most=_MAX_NAME), _turns(fields), labels, passing, _sampling(fields))


def _labels(fields: _Fields, name: str) -> tuple[str, ...]:
    found = fields.items(name, most=_MAX_LABELS)
    for label in found:
        if not isinstance(label, str) or not 1 <= len(label) <= _MAX_NAME:
            raise fields.refused(name, label, f"texts of 1 to {_MAX_NAME} characters")
    if len(set(found)) != len(found):
        raise fields.refused(name, found, "each label once")
    return tuple(found)


def _turns(fields: _Fields) -> tuple[JudgeTurn, ...]:
    turns = []
    for number, value in enumerate(fields.items("input", most=_MAX_TURNS)):
        turn = _Fields(value, f"{fields.at('input')}[{number}]")
        turns.append(JudgeTurn(turn.choice("role", _ROLES), _parts(turn)))
    return tuple(turns)


def _parts(turn: _Fields) -> tuple[Part, ...]:
    content = turn.needed("content")
    if isinstance(content, str):
        return (Part("", turn.template("content")),)
    several = isinstance(content, list)
    found = turn.items("content", most=_MAX_PARTS) if several else [content]
    return tuple(
        _part(value, turn.at("content") + (f"[{number}]" if several else "")) for number, value in enumerate(found)
    )


def _part(value: Any, param: str) -> Part:
    if isinstance(value, str):
        return Part("input_text", parse_template(value, param=param))
    part = _Fields(value, param)
    if part.get("type") in _OTHER_KINDS:
        raise part.refused("type", part.get("type"), f"{', '.join(_TEXT_KINDS)}: judges read text")
    return Part(part.choice("type", _TEXT_KINDS), part.template("text"))


def _sampling(fields: _Fields) -> JudgeSampling:
    if fields.get("sampling_params") is None:
        return JudgeSampling()
    given, default = _Fields(fields.get("sampling_params"), fields.at("sampling_params")), JudgeSampling()
    if given.get("reasoning_effort") not in (None, "none"):
        raise given.refused("reasoning_effort", given.get("reasoning_effort"), "none: judges answer at once")
    sampling = JudgeSampling(
        temperature=given.number("temperature", default.temperature, low=0, high=2),
        top_p=given.number("top_p", default.top_p, low=0, high=1, open_below=True),
        seed=given.integer("seed", default.seed, low=0, high=2**63 - 1),
    )
    tokens = given.integer("max_completions_tokens", default.max_tokens, low=1, high=_MAX_JUDGE_TOKENS)
    return sampling if tokens is None else replace(sampling, max_tokens=tokens)


def _judge_document(grader: ScoreModel | LabelModel) -> dict[str, Any]:
    sampling = grader.sampling
    return {
        "model": grader.model,
        "input": [{"role": turn.role, "content": _content(turn), "type": "message"} for turn in grader.turns],
        "sampling_params": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "max_completions_tokens": sampling.max_tokens,
        },
    }


def _content(turn: JudgeTurn) -> str | list[dict[str, str]]:
    if [part.kind for part in turn.parts] == [""]:
        return turn.parts[0].text.text
    return [{"type": part.kind, "text": part.text.text} for part in turn.parts]


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        # What fits no float is no number that can be meant.
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _shown(value: Any) -> str:
    """Return a value for an error, cut where it is long."""
    return repr(value)[:100]
