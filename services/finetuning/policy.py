"""Who may call which RPC of this room; what is not listed is refused.

Beyond the role, every use case looks at the object: jobs and datasets are their owner's, adapters their audience's, and
what may only be used may not be changed.
"""

from typing import Final

from services.chassis.auth import Policy, Role, at_least

__all__ = ["POLICY"]

_TRAINER = at_least(Role.TRAINER)

POLICY: Final[Policy] = {
    "/brain.finetuning.v1.JobService/CreateJob": _TRAINER,
    "/brain.finetuning.v1.JobService/CheckJob": _TRAINER,
    "/brain.finetuning.v1.JobService/GetJob": _TRAINER,
    "/brain.finetuning.v1.JobService/ListJobs": _TRAINER,
    "/brain.finetuning.v1.JobService/CancelJob": _TRAINER,
    "/brain.finetuning.v1.JobService/PauseJob": _TRAINER,
    "/brain.finetuning.v1.JobService/ResumeJob": _TRAINER,
    "/brain.finetuning.v1.JobService/ListEvents": _TRAINER,
    "/brain.finetuning.v1.JobService/ListCheckpoints": _TRAINER,
    "/brain.finetuning.v1.DatasetService/BuildDataset": _TRAINER,
    "/brain.finetuning.v1.DatasetService/GetDataset": _TRAINER,
    "/brain.finetuning.v1.DatasetService/ListDatasets": _TRAINER,
    "/brain.finetuning.v1.DatasetService/DeleteDataset": _TRAINER,
    "/brain.finetuning.v1.AdapterService/ListAdapters": _TRAINER,
    "/brain.finetuning.v1.AdapterService/GetAdapter": _TRAINER,
    "/brain.finetuning.v1.AdapterService/ImportAdapter": _TRAINER,
    "/brain.finetuning.v1.AdapterService/BlockAdapter": _TRAINER,
    # What saw something that is gone is served again only by who answers for the whole tenant.
    "/brain.finetuning.v1.AdapterService/AcceptAdapter": at_least(Role.ADMINISTRATOR),
    "/brain.finetuning.v1.AdapterService/DeleteAdapter": _TRAINER,
    # Called by the gateway with the token of whoever deletes or restricts a document, after the ingestion room has agreed
    # to that, or before it is asked: refusing an adapter for nothing harms less than serving one for a moment too long.
    "/brain.finetuning.v1.AdapterService/WithholdSources": at_least(Role.CONTRIBUTOR),
    "/brain.finetuning.v1.AdapterService/RetrainAdapter": _TRAINER,
    "/brain.finetuning.v1.PromotionService/Promote": _TRAINER,
    "/brain.finetuning.v1.PromotionService/GetPromotion": _TRAINER,
    "/brain.finetuning.v1.PromotionService/ListPromotions": _TRAINER,
    "/brain.finetuning.v1.PromotionService/Rollback": _TRAINER,
    "/brain.finetuning.v1.PromotionService/ListAliases": _TRAINER,
    "/brain.finetuning.v1.GraderService/ValidateGrader": _TRAINER,
    "/brain.finetuning.v1.GraderService/RunGrader": _TRAINER,
    "/brain.finetuning.v1.WebhookService/CreateWebhook": at_least(Role.ADMINISTRATOR),
    "/brain.finetuning.v1.WebhookService/ListWebhooks": at_least(Role.ADMINISTRATOR),
    "/brain.finetuning.v1.WebhookService/DeleteWebhook": at_least(Role.ADMINISTRATOR),
}
