"""WebhookService."""

from google.protobuf.timestamp_pb2 import Timestamp

from brain.finetuning.v1 import webhook_pb2
from services.chassis.auth import current_caller
from services.finetuning.domain.webhooks import Webhook
from services.finetuning.usecases.webhooks import Webhooks

__all__ = ["WebhookServicer"]


class WebhookServicer:
    """Webhooks over gRPC.

    Args:
        webhooks: Keeps addresses.
    """

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def CreateWebhook(
        self, request: webhook_pb2.CreateWebhookRequest, context: object
    ) -> webhook_pb2.CreateWebhookResponse:
        """Keep an address."""
        webhook, secret = await self._webhooks.create(current_caller(), url=request.url, events=request.events)
        return webhook_pb2.CreateWebhookResponse(webhook=_message(webhook), secret=secret)

    async def ListWebhooks(
        self, request: webhook_pb2.ListWebhooksRequest, context: object
    ) -> webhook_pb2.ListWebhooksResponse:
        """Return the tenant's addresses."""
        found = await self._webhooks.list(current_caller())
        return webhook_pb2.ListWebhooksResponse(webhooks=[_message(webhook) for webhook in found])

    async def DeleteWebhook(
        self, request: webhook_pb2.DeleteWebhookRequest, context: object
    ) -> webhook_pb2.DeleteWebhookResponse:
        """Forget an address."""
        await self._webhooks.delete(current_caller(), request.webhook_id)
        return webhook_pb2.DeleteWebhookResponse()


def _message(webhook: Webhook) -> webhook_pb2.Webhook:
    whole = int(webhook.created_at)
    return webhook_pb2.Webhook(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        events=[event.value for event in webhook.events],
        created_at=Timestamp(seconds=whole, nanos=int((webhook.created_at - whole) * 1e9)),
        last_delivery=webhook.last_delivery,
    )
