"""The finetuning room over gRPC: one class for each of its services."""

from gateway.backends.finetuning.adapters import GrpcAdapters, GrpcPromotions
from gateway.backends.finetuning.datasets import GrpcDatasets
from gateway.backends.finetuning.jobs import GrpcGraders, GrpcJobs, GrpcWebhooks

__all__ = ["IDEMPOTENT", "GrpcAdapters", "GrpcDatasets", "GrpcGraders", "GrpcJobs", "GrpcPromotions", "GrpcWebhooks"]

IDEMPOTENT = tuple(
    f"brain.finetuning.v1.{name}"
    for name in (
        "JobService/CheckJob",
        "JobService/GetJob",
        "JobService/ListJobs",
        "JobService/ListEvents",
        "JobService/ListCheckpoints",
        "GraderService/ValidateGrader",
        "GraderService/RunGrader",
        "DatasetService/GetDataset",
        "DatasetService/ListDatasets",
        "AdapterService/ListAdapters",
        "AdapterService/GetAdapter",
        "AdapterService/BlockAdapter",
        "AdapterService/WithholdSources",
        "PromotionService/GetPromotion",
        "PromotionService/ListPromotions",
        "PromotionService/ListAliases",
        "WebhookService/ListWebhooks",
    )
)
