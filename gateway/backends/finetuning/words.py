"""Finetuning's messages as our words."""

from typing import Final

from brain.finetuning.v1 import adapter_pb2, dataset_pb2, job_pb2, promotion_pb2, webhook_pb2
from gateway.backends.wire import model_name, moment, moment_or_none
from gateway.domain.adapters import (
    Adapter,
    AdapterSource,
    AdapterState,
    Alias,
    Promotion,
    PromotionState,
    PromotionStep,
)
from gateway.domain.tuning import (
    Checkpoint,
    Dataset,
    DatasetKind,
    DatasetSpec,
    DatasetStatus,
    Job,
    JobError,
    JobEvent,
    JobStatus,
    Lora,
    NewJob,
    Stage,
    TrainingSpec,
    Webhook,
)

__all__ = [
    "adapter",
    "alias",
    "checkpoint",
    "dataset",
    "dataset_spec_to",
    "event",
    "job",
    "new_job_to",
    "promotion",
    "webhook",
]

_STAGE: Final = {
    Stage.CONTINUED_PRETRAINING: job_pb2.STAGE_CONTINUED_PRETRAINING,
    Stage.SUPERVISED: job_pb2.STAGE_SUPERVISED,
    Stage.RAFT: job_pb2.STAGE_RAFT,
    Stage.DPO: job_pb2.STAGE_DPO,
    Stage.KTO: job_pb2.STAGE_KTO,
    Stage.REWARD_MODEL: job_pb2.STAGE_REWARD_MODEL,
    Stage.RLHF: job_pb2.STAGE_RLHF,
    Stage.RLAIF: job_pb2.STAGE_RLAIF,
}
_STAGE_OF: Final = {number: stage for stage, number in _STAGE.items()}
_STATUS: Final[dict[int, JobStatus]] = {
    job_pb2.JOB_STATUS_VALIDATING_FILES: JobStatus.VALIDATING_FILES,
    job_pb2.JOB_STATUS_QUEUED: JobStatus.QUEUED,
    job_pb2.JOB_STATUS_RUNNING: JobStatus.RUNNING,
    job_pb2.JOB_STATUS_PAUSED: JobStatus.PAUSED,
    job_pb2.JOB_STATUS_SUCCEEDED: JobStatus.SUCCEEDED,
    job_pb2.JOB_STATUS_FAILED: JobStatus.FAILED,
    job_pb2.JOB_STATUS_CANCELLED: JobStatus.CANCELLED,
}
_ADAPTER: Final[dict[int, AdapterState]] = {
    adapter_pb2.ADAPTER_STATE_PUBLISHED: AdapterState.PUBLISHED,
    adapter_pb2.ADAPTER_STATE_BLOCKED: AdapterState.BLOCKED,
    adapter_pb2.ADAPTER_STATE_DELETED: AdapterState.DELETED,
}
_KIND: Final = {
    DatasetKind.TEXT: dataset_pb2.DATASET_KIND_TEXT,
    DatasetKind.QUESTIONS: dataset_pb2.DATASET_KIND_QUESTIONS,
    DatasetKind.RAFT: dataset_pb2.DATASET_KIND_RAFT,
    DatasetKind.KTO: dataset_pb2.DATASET_KIND_KTO,
    DatasetKind.PREFERENCES: dataset_pb2.DATASET_KIND_PREFERENCES,
    DatasetKind.IMPORT: dataset_pb2.DATASET_KIND_IMPORT,
    DatasetKind.PROMPTS: dataset_pb2.DATASET_KIND_PROMPTS,
}
_KIND_OF: Final = {number: kind for kind, number in _KIND.items()}
_DATASET: Final[dict[int, DatasetStatus]] = {
    dataset_pb2.DATASET_STATUS_BUILDING: DatasetStatus.BUILDING,
    dataset_pb2.DATASET_STATUS_READY: DatasetStatus.READY,
    dataset_pb2.DATASET_STATUS_FAILED: DatasetStatus.FAILED,
}
_PROMOTION: Final[dict[int, PromotionState]] = {
    promotion_pb2.PROMOTION_STATE_GATED: PromotionState.GATED,
    promotion_pb2.PROMOTION_STATE_CANARY: PromotionState.CANARY,
    promotion_pb2.PROMOTION_STATE_PROMOTED: PromotionState.PROMOTED,
    promotion_pb2.PROMOTION_STATE_ROLLED_BACK: PromotionState.ROLLED_BACK,
    promotion_pb2.PROMOTION_STATE_REFUSED: PromotionState.REFUSED,
}
# Fields of the same name and meaning on both sides; the optional ones are unset, not 0, when nobody chose.
_SPEC_OPTIONAL: Final = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
_SPEC_PLAIN: Final = (
    "max_length",
    "max_steps",
    "checkpoint_every",
    "evaluate_every",
    "reward_model",
    "grader_json",
    "constitution",
    "judge_model",
    "samples_per_prompt",
    "max_completion_tokens",
    "budget_s",
    "budget_cost",
)
_ROWS_OPTIONAL: Final = ("gold_share", "unanswerable_share", "held_out_share", "seed")
_ROWS_PLAIN: Final = ("file_id", "format", "max_rows", "passages_per_row", "phrasings", "writer_model")


def _spec_to(spec: TrainingSpec) -> job_pb2.TrainingSpec:
    lora = job_pb2.Lora(
        rank=spec.lora.rank,
        alpha=spec.lora.alpha,
        dropout=spec.lora.dropout,
        target_modules=spec.lora.target_modules,
        rank_stabilised=spec.lora.rank_stabilised,
    )
    plain = {name: getattr(spec, name) for name in _SPEC_PLAIN}
    message = job_pb2.TrainingSpec(stage=_STAGE[spec.stage], lora=lora, **plain)
    for name in _SPEC_OPTIONAL:
        if (chosen := getattr(spec, name)) is not None:
            setattr(message, name, chosen)
    return message


def _spec(value: job_pb2.TrainingSpec) -> TrainingSpec:
    lora = value.lora
    return TrainingSpec(
        stage=_STAGE_OF[value.stage],
        lora=Lora(lora.rank, lora.alpha, lora.dropout, tuple(lora.target_modules), lora.rank_stabilised),
        **{name: getattr(value, name) for name in _SPEC_PLAIN},
        **{name: getattr(value, name) if value.HasField(name) else None for name in _SPEC_OPTIONAL},  # type: ignore[arg-type]
    )


def new_job_to(new: NewJob) -> job_pb2.CreateJobRequest:
    """Return a job to create, for the wire."""
    return job_pb2.CreateJobRequest(
        model=model_name(new.model),
        training_file=new.training_file,
        validation_file=new.validation_file,
        suffix=new.suffix,
        seed=new.seed,
        metadata=dict(new.metadata),
        method_json=new.method_json,
        spec=_spec_to(new.spec),
        integrations_json=new.integrations_json,
        audience=new.audience,
    )


def job(value: job_pb2.Job) -> Job:
    """Return a job."""
    error = value.error
    return Job(
        id=value.job_id,
        created_at=moment(value.created_at),
        finished_at=moment_or_none(value.finished_at),
        status=_STATUS[value.status],
        error=JobError(error.code, error.message, error.param) if value.HasField("error") else None,
        model=value.model,
        base_model=value.base_model,
        fine_tuned_model=value.fine_tuned_model,
        training_file=value.training_file,
        validation_file=value.validation_file,
        result_files=tuple(value.result_files),
        suffix=value.suffix,
        seed=value.seed,
        metadata=dict(value.metadata),
        method_json=value.method_json,
        spec=_spec(value.spec),
        trained_tokens=value.trained_tokens,
        estimated_finish=moment_or_none(value.estimated_finish),
        queue_position=value.queue_position,
        step=value.step,
        total_steps=value.total_steps,
        report_json=value.report_json,
        owner=value.owner,
        integrations_json=value.integrations_json,
        metrics_json=value.metrics_json,
    )


def event(value: job_pb2.JobEvent) -> JobEvent:
    """Return something that happened to a job."""
    return JobEvent(value.event_id, moment(value.created_at), value.level, value.message, value.type, value.data_json)


def checkpoint(value: job_pb2.Checkpoint) -> Checkpoint:
    """Return a checkpoint."""
    return Checkpoint(
        value.checkpoint_id, moment(value.created_at), value.model, value.job_id, value.step, value.metrics_json
    )


def webhook(value: webhook_pb2.Webhook) -> Webhook:
    """Return an address that is told."""
    return Webhook(value.webhook_id, value.url, tuple(value.events), moment(value.created_at), value.last_delivery)


def dataset_spec_to(spec: DatasetSpec) -> dataset_pb2.DatasetSpec:
    """Return how to make rows, for the wire."""
    message = dataset_pb2.DatasetSpec(
        kind=_KIND[spec.kind],
        collection_ids=spec.collection_ids,
        document_ids=spec.document_ids,
        **{name: getattr(spec, name) for name in _ROWS_PLAIN},
    )
    for name in _ROWS_OPTIONAL:
        if (chosen := getattr(spec, name)) is not None:
            setattr(message, name, chosen)
    return message


def dataset(value: dataset_pb2.Dataset) -> Dataset:
    """Return a dataset."""
    spec = value.spec
    return Dataset(
        id=value.dataset_id,
        name=value.name,
        created_at=moment(value.created_at),
        status=_DATASET[value.status],
        spec=DatasetSpec(
            kind=_KIND_OF[spec.kind],
            collection_ids=tuple(spec.collection_ids),
            document_ids=tuple(spec.document_ids),
            **{name: getattr(spec, name) for name in _ROWS_PLAIN},
            **{name: getattr(spec, name) if spec.HasField(name) else None for name in _ROWS_OPTIONAL},  # type: ignore[arg-type]
        ),
        training_file=value.training_file,
        held_out_file=value.held_out_file,
        rows=value.rows,
        held_out_rows=value.held_out_rows,
        documents=value.documents,
        judgements=value.judgements,
        report_json=value.report_json,
        error=value.error,
        owner=value.owner,
    )


def adapter(value: adapter_pb2.Adapter) -> Adapter:
    """Return an adapter."""
    return Adapter(
        name=value.name,
        suffix=value.suffix,
        version=value.version,
        created_at=moment(value.created_at),
        state=_ADAPTER[value.state],
        reason=value.reason,
        digest=value.digest,
        base_model=value.base_model,
        base_digest=value.base_digest,
        base_licence=value.base_licence,
        template_hash=value.template_hash,
        parent=value.parent,
        job_id=value.job_id,
        step=value.step,
        rank=value.rank,
        size_bytes=value.size_bytes,
        seed=value.seed,
        settings_json=value.settings_json,
        metrics_json=value.metrics_json,
        principals=tuple(value.principals),
        sources=tuple(AdapterSource(one.kind, one.id, one.version, one.rows, one.withdrawn) for one in value.sources),
        aliases=tuple(value.aliases),
        owner=value.owner,
    )


def promotion(value: promotion_pb2.Promotion) -> Promotion:
    """Return a promotion."""
    return Promotion(
        id=value.promotion_id,
        alias=value.alias,
        candidate=value.candidate,
        previous=value.previous,
        state=_PROMOTION[value.state],
        canary_weight=value.canary_weight,
        created_at=moment(value.created_at),
        finished_at=moment_or_none(value.finished_at),
        history=tuple(
            PromotionStep(moment(one.at), _PROMOTION[one.state], one.reason, one.by) for one in value.history
        ),
        owner=value.owner,
        check_json=value.check_json,
    )


def alias(value: promotion_pb2.Alias) -> Alias:
    """Return an alias."""
    return Alias(value.alias, value.target, value.canary, value.canary_weight, moment(value.moved_at))
