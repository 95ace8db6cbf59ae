"""Training jobs as they are asked for: OpenAI's body, with our own stages and settings under `brain` (the SDK's extra_body).

Creating a job and checking one take the same body, so that what was checked is what is created.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from gateway.api.bodies import Metadata, OrEmpty, Principal, SdkBody
from gateway.domain.tuning import Lora, NewJob, Stage, TrainingSpec, stage_for
from services.chassis.errors import InvalidInput

__all__ = ["TrainingBody", "new_job"]

_AUTO: Final = "auto"
_Auto = Literal["auto"]
# Answers sampled for one prompt where OpenAI's `compute_multiplier` is 1; the field goes up to 10.
_USUAL_SAMPLES: Final = 4
_MAX_SAMPLES: Final = 64


def _whole(low: int, high: int | None = None) -> Callable[[Any], Any]:
    allowed = f"use 'auto' or a whole number from {low}" + (f" to {high}" if high else "")

    def check(value: Any) -> Any:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if value is None or value == _AUTO or (is_whole and low <= value <= (high or 2**31 - 1)):
            return value
        raise ValueError(allowed)

    return check


def _above_zero(high: float | None = None) -> Callable[[Any], Any]:
    allowed = "use 'auto' or a number above 0" + (f", at most {high:g}" if high else "")

    def check(value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or value == _AUTO or (is_number and 0 < value <= (high or 1e9)):
            return value
        raise ValueError(allowed)

    return check


def _auto_schema(kind: str, **bounds: float) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": _AUTO, "type": "string"}, {"type": kind, **bounds}, {"type": "null"}]})


Epochs = Annotated[int | _Auto | None, PlainValidator(_whole(1, 50)), _auto_schema("integer", minimum=1, maximum=50)]
BatchSize = Annotated[
    int | _Auto | None, PlainValidator(_whole(1, 256)), _auto_schema("integer", minimum=1, maximum=256)
]
Count = Annotated[int | _Auto | None, PlainValidator(_whole(1)), _auto_schema("integer", minimum=1)]
Factor = Annotated[
    int | float | _Auto | None, PlainValidator(_above_zero()), _auto_schema("number", exclusiveMinimum=0)
]
UpToTen = Annotated[
    int | float | _Auto | None, PlainValidator(_above_zero(10)), _auto_schema("number", exclusiveMinimum=0, maximum=10)
]


class Hyperparameters(SdkBody):
    """What every method can be told."""

    n_epochs: Epochs = None
    batch_size: BatchSize = None
    learning_rate_multiplier: Factor = None


class DpoHyperparameters(Hyperparameters):
    """What preference tuning can be told."""

    beta: Factor = None


class ReinforcementHyperparameters(Hyperparameters):
    """What reinforcement can be told; `eval_samples` and `reasoning_effort` are taken, echoed, and change nothing."""

    compute_multiplier: UpToTen = None
    eval_interval: Count = None
    eval_samples: Count = None
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None


class Supervised(SdkBody):
    """Answers that experts wrote."""

    hyperparameters: Hyperparameters | None = None


class Dpo(SdkBody):
    """Preferred over rejected answers."""

    hyperparameters: DpoHyperparameters | None = None


class Reinforcement(SdkBody):
    """Answers that a grader scores."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters | None = None


class Method(SdkBody):
    """OpenAI's methods."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None

    @model_validator(mode="after")
    def _settings_are_of_the_type(self) -> "Method":
        others = [name for name in ("supervised", "dpo", "reinforcement") if name != self.type and getattr(self, name)]
        if others:
            raise ValueError(f"settings under {others[0]!r} are not allowed beside type {self.type!r}")
        if self.type == "reinforcement" and self.reinforcement is None:
            raise ValueError("type 'reinforcement' needs its grader under 'reinforcement.grader'")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """What its type is told."""
        settings: Supervised | Dpo | Reinforcement | None = getattr(self, self.type)
        return settings.hyperparameters if settings else None


class _Ours(BaseModel):
    # Our own words: a misspelt one is told.
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraOptions(_Ours):
    """The shape of the adapter."""

    r: int | None = Field(None, ge=1, le=512)
    alpha: float | None = Field(None, gt=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    target_modules: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], OrEmpty] = Field(
        default=[], max_length=64
    )
    rank_stabilised: bool | None = None


class BrainOptions(_Ours):
    """What OpenAI has no words for."""

    stage: Stage | None = None
    lora: LoraOptions | None = None
    n_epochs: Epochs = None
    batch_size: BatchSize = None
    learning_rate_multiplier: Factor = None
    beta: Factor = None
    max_length: int | None = Field(None, ge=16, le=2**20)
    max_steps: int | None = Field(None, ge=1, lt=2**31)
    checkpoint_every: int | None = Field(None, ge=1, lt=2**31)
    evaluate_every: int | None = Field(None, ge=1, lt=2**31)
    reward_model: str | None = Field(None, min_length=1, max_length=256)
    grader: dict[str, Any] | None = None
    constitution: str | None = Field(None, min_length=1, max_length=20_000)
    judge_model: str | None = Field(None, min_length=1, max_length=256)
    samples_per_prompt: int | None = Field(None, ge=2, le=_MAX_SAMPLES)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**20)
    budget_s: float | None = Field(None, gt=0)
    budget_cost: float | None = Field(None, gt=0)
    # Who is to be able to ask the adapter; what it was trained on narrows that.
    access: list[Principal] = Field(default=[], max_length=500)


class TrainingBody(SdkBody):
    """A training job."""

    model: str = Field(min_length=1, max_length=256)
    training_file: str = Field(min_length=1, max_length=256)
    validation_file: str | None = Field(None, min_length=1, max_length=256)
    suffix: str | None = Field(None, min_length=1, max_length=64)
    # OpenAI's bounds.
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: Metadata | None = None
    integrations: Annotated[list[Any], OrEmpty] = Field(default=[])
    hyperparameters: Hyperparameters | None = Field(None, json_schema_extra={"deprecated": True})
    method: Method | None = None
    brain: BrainOptions | None = None

    @field_validator("integrations")
    @classmethod
    def _nothing_leaves(cls, value: list[Any]) -> list[Any]:
        if value:
            raise ValueError("this installation sends nothing to other services; leave it out or give an empty list")
        return value


def new_job(body: TrainingBody) -> NewJob:
    """Return the job that a body asks for.

    Raises:
        InvalidInput: Two places say something of the same setting, or method and stage do not go together.
    """
    method, ours = body.method, body.brain or BrainOptions()
    place, theirs = "hyperparameters", body.hyperparameters
    if method is not None:
        if _chosen(body.hyperparameters):
            raise InvalidInput(
                "hyperparameters: not allowed beside method; give them under "
                f"method.{method.type}.hyperparameters alone.",
                param="hyperparameters",
            )
        place, theirs = f"method.{method.type}.hyperparameters", method.hyperparameters
    settings = _settings(ours, theirs, place)
    grader = method.reinforcement.grader if method is not None and method.reinforcement is not None else None
    if grader is not None and ours.grader is not None:
        raise _twice("grader", "method.reinforcement.grader")
    lora = ours.lora or LoraOptions()
    spec = TrainingSpec(
        stage=stage_for(method.type if method else "", ours.stage),
        lora=Lora(
            rank=lora.r or 0,
            alpha=lora.alpha or 0.0,
            dropout=lora.dropout or 0.0,
            target_modules=tuple(lora.target_modules),
            rank_stabilised=bool(lora.rank_stabilised),
        ),
        max_length=ours.max_length or 0,
        max_steps=ours.max_steps or 0,
        checkpoint_every=ours.checkpoint_every or 0,
        reward_model=ours.reward_model or "",
        grader_json=_json(grader or ours.grader),
        constitution=ours.constitution or "",
        judge_model=ours.judge_model or "",
        max_completion_tokens=ours.max_completion_tokens or 0,
        budget_s=ours.budget_s or 0.0,
        budget_cost=ours.budget_cost or 0.0,
        **settings,
    )
    return NewJob(
        model=body.model,
        training_file=body.training_file,
        spec=spec,
        validation_file=body.validation_file or "",
        suffix=body.suffix or "",
        seed=body.seed,
        metadata=body.metadata or {},
        method_json=_json(method.model_dump(exclude_unset=True) if method else None),
        integrations_json=_json(body.integrations) if "integrations" in body.model_fields_set else "",
        audience=tuple(ours.access),
    )


def _settings(ours: BrainOptions, theirs: Hyperparameters | None, place: str) -> dict[str, Any]:
    """Return what either place says of the settings that both have words for, as the fields of a TrainingSpec."""
    said = _chosen(theirs)
    if (multiplier := said.pop("compute_multiplier", None)) is not None:
        said["samples_per_prompt"] = min(_MAX_SAMPLES, max(2, round(_USUAL_SAMPLES * multiplier)))
    if (interval := said.pop("eval_interval", None)) is not None:
        said["evaluate_every"] = interval
    for name in ("eval_samples", "reasoning_effort"):
        said.pop(name, None)
    names = (
        "n_epochs",
        "batch_size",
        "learning_rate_multiplier",
        "beta",
        "evaluate_every",
        "samples_per_prompt",
    )
    own = {name: value for name in names if (value := getattr(ours, name)) not in {None, _AUTO}}
    for name in own:
        if name in said:
            raise _twice(name, place)
    return said | own


def _chosen(said: Hyperparameters | None) -> dict[str, Any]:
    """Return what is neither left out nor left to the room."""
    values = said.model_dump(exclude_none=True) if said else {}
    return {name: value for name, value in values.items() if value != _AUTO}


def _twice(name: str, place: str) -> InvalidInput:
    return InvalidInput(f"brain.{name}: {place} says this already; give it in one place.", param=f"brain.{name}")


def _json(value: Any) -> str:
    return "" if value is None else orjson.dumps(value).decode()
