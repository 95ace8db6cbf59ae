"""Training jobs beyond OpenAI's API: checked before they are created, and told of when they end."""

from gateway.api.brain import tuning_views as views
from gateway.api.brain.tuning_requests import CheckBody, WebhookBody
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.api.training import new_job
from gateway.ports import Jobs, Webhooks

__all__ = ["TuningRoutes"]

_WEBHOOKS = "/brain/v1/webhooks"


class TuningRoutes:
    """Answers for checks and webhooks.

    Args:
        jobs: Checks training jobs.
        webhooks: Addresses that are told.
    """

    def __init__(self, *, jobs: Jobs, webhooks: Webhooks) -> None:
        self._jobs = jobs
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/brain/v1/tuning/check",
                self.check,
                "Say whether a job could be trained, what is wrong with its rows, and what it would take",
                body=Body.JSON,
                request=CheckBody,
                only_reads=True,
            ),
            Route(
                "POST",
                _WEBHOOKS,
                self.create_webhook,
                "Keep an address that is told when jobs end; its secret is shown this once",
                body=Body.JSON,
                request=WebhookBody,
                creates=True,
                secret=True,
            ),
            Route("GET", _WEBHOOKS, self.list_webhooks, "List the addresses"),
            Route("DELETE", f"{_WEBHOOKS}/{{webhook_id}}", self.delete_webhook, "Forget an address"),
        ]

    async def check(self, call: Call) -> Reply:
        """Check a job without creating it."""
        asked = await call.parse(CheckBody)
        return json_reply(views.check(await self._jobs.check(new_job(asked), skip_dry_run=asked.skip_dry_run)))

    async def create_webhook(self, call: Call) -> Reply:
        """Keep an address."""
        asked = await call.parse(WebhookBody)
        made, secret = await self._webhooks.create(asked.url, asked.events)
        call.touched(made.id)
        return json_reply(views.webhook(made) | {"secret": secret}, 201)

    async def list_webhooks(self, call: Call) -> Reply:
        """List the addresses."""
        return json_reply({"data": [views.webhook(one) for one in await self._webhooks.list()]})

    async def delete_webhook(self, call: Call) -> Reply:
        """Forget an address."""
        identity = call.path["webhook_id"]
        await self._webhooks.delete(identity)
        return json_reply({"id": identity, "deleted": True})
