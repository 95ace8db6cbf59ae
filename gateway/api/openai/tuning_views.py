"""Training jobs, their events and checkpoints in OpenAI's shapes. What is ours stands under `brain`."""

from datetime import datetime
from typing import Any, Final

import orjson

from gateway.domain.tuning import FINAL_STATUSES, Checkpoint, Job, JobEvent, JobStatus, Stage, TrainingSpec

__all__ = ["checkpoint", "event", "job", "spec"]

_AUTO: Final = "auto"
# Stages that OpenAI's method says in full: a job of theirs carries the method although none was given.
_METHOD_OF: Final = {Stage.SUPERVISED: "supervised", Stage.DPO: "dpo", Stage.RLHF: "reinforcement"}


def job(one: Job, *, tenant: str) -> dict[str, Any]:
    """Return a training job; hyperparameters hold what was chosen, `auto` where the room has not chosen yet."""
    is_final = one.status in FINAL_STATUSES
    chosen = _chosen(one.spec)
    return {
        "id": one.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(one.created_at),
        "error": _error(one),
        "finished_at": _seconds(one.finished_at),
        "fine_tuned_model": one.fine_tuned_model or None,
        "hyperparameters": {name: chosen[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")},
        "model": one.model,
        "organization_id": tenant,
        "result_files": list(one.result_files),
        "status": one.status.value,
        "trained_tokens": one.trained_tokens if is_final else None,
        "training_file": one.training_file,
        "validation_file": one.validation_file or None,
        "seed": one.seed,
        "estimated_finish": None if is_final else _seconds(one.estimated_finish),
        "integrations": _parsed(one.integrations_json, []),
        "metadata": dict(one.metadata) or None,
        "method": _method(one, chosen),
        "user_provided_suffix": one.suffix or None,
        "brain": _ours(one),
    }


def _ours(one: Job) -> dict[str, Any]:
    return {
        "stage": one.spec.stage.value,
        "base_model": one.base_model,
        "step": one.step,
        "total_steps": one.total_steps or None,
        "queue_position": one.queue_position if one.status is JobStatus.QUEUED else None,
        "trained_tokens": one.trained_tokens,
        "metrics": _parsed(one.metrics_json, {}),
        "spec": spec(one.spec),
        "report": _parsed(one.report_json, None),
        "owner": one.owner,
    }


def spec(one: TrainingSpec) -> dict[str, Any]:
    """Return how a job is trained; null is what nobody has chosen, and what its stage has no use for."""
    lora = one.lora
    return {
        "stage": one.stage.value,
        "n_epochs": one.n_epochs,
        "batch_size": one.batch_size,
        "learning_rate_multiplier": one.learning_rate_multiplier,
        "beta": one.beta,
        "lora": {
            "r": lora.rank or None,
            "alpha": lora.alpha or None,
            "dropout": lora.dropout,
            "target_modules": list(lora.target_modules),
            "rank_stabilised": lora.rank_stabilised,
        },
        "max_length": one.max_length or None,
        "max_steps": one.max_steps or None,
        "checkpoint_every": one.checkpoint_every or None,
        "evaluate_every": one.evaluate_every or None,
        "reward_model": one.reward_model or None,
        "grader": _parsed(one.grader_json, None),
        "constitution": one.constitution or None,
        "judge_model": one.judge_model or None,
        "samples_per_prompt": one.samples_per_prompt or None,
        "max_completion_tokens": one.max_completion_tokens or None,
        "budget_s": one.budget_s or None,
        "budget_cost": one.budget_cost or None,
    }


def event(one: JobEvent) -> dict[str, Any]:
    """Return something that happened to a job."""
    return {
        "object": "fine_tuning.job.event",
        "id": one.id,
        "created_at": _seconds(one.created_at),
        "level": one.level,
        "message": one.message,
        "type": one.type,
        "data": _parsed(one.data_json, None),
    }


def checkpoint(one: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": one.id,
        "created_at": _seconds(one.created_at),
        "fine_tuned_model_checkpoint": one.model,
        "fine_tuning_job_id": one.job_id,
        "step_number": one.step,
        "metrics": {"step": one.step} | _parsed(one.metrics_json, {}),
    }


def _error(one: Job) -> dict[str, Any] | None:
    if one.error is None:
        return None
    return {"code": one.error.code, "message": one.error.message, "param": one.error.param or None}


def _chosen(one: TrainingSpec) -> dict[str, Any]:
    """Return the values of OpenAI's hyperparameters that a job is trained with."""
    values = {
        "n_epochs": one.n_epochs,
        "batch_size": one.batch_size,
        "learning_rate_multiplier": one.learning_rate_multiplier,
        "beta": one.beta,
        "eval_interval": one.evaluate_every or None,
    }
    return {name: _AUTO if value is None else value for name, value in values.items()}


def _method(one: Job, chosen: dict[str, Any]) -> dict[str, Any] | None:
    """Return the method as it was written, with what was chosen in the place of `auto`; null where OpenAI has none."""
    written: dict[str, Any] = _parsed(one.method_json, {})
    kind = written.get("type") or _METHOD_OF.get(one.spec.stage)
    if kind is None or (kind == "reinforcement" and not written and not one.spec.grader_json):
        return None
    settings: dict[str, Any] = dict(written.get(kind) or {})
    names = ["n_epochs", "batch_size", "learning_rate_multiplier"]
    if kind == "dpo":
        names.append("beta")
    elif kind == "reinforcement":
        names.append("eval_interval")
        settings.setdefault("grader", _parsed(one.spec.grader_json, None))
    known = {name: value for name, value in (settings.get("hyperparameters") or {}).items() if value is not None}
    settings["hyperparameters"] = known | {name: chosen[name] for name in names}
    return {"type": kind, kind: settings}


def _parsed(text: str, otherwise: Any) -> Any:
    return orjson.loads(text) if text else otherwise


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
