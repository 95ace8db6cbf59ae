"""The registry of adapters: what was trained, on what, by whom, and whether it may be asked."""

from gateway.api.brain import tuning_views as views
from gateway.api.brain.tuning_requests import AdapterImport, AdaptersQuery, Reason, ReasonOrNone
from gateway.api.brain.views import page
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import Paging
from gateway.ports import Adapters

__all__ = ["AdapterRoutes"]

_PATH = "/brain/v1/adapters"


class AdapterRoutes:
    """Answers for adapters.

    Args:
        adapters: The finetuning room's registry.
    """

    def __init__(self, *, adapters: Adapters) -> None:
        self._adapters = adapters

    def routes(self) -> list[Route]:
        """Return the routes; names of base models may hold slashes."""
        one = f"{_PATH}/{{adapter:path}}"
        return [
            Route("GET", _PATH, self.list_all, "List adapters, newest first", query=AdaptersQuery),
            Route(
                "POST",
                _PATH,
                self.import_archive,
                "Publish an adapter that was trained elsewhere",
                body=Body.JSON,
                request=AdapterImport,
                creates=True,
            ),
            Route("GET", one, self.get, "Return an adapter with its lineage"),
            Route(
                "POST",
                f"{one}/block",
                self.block,
                "Refuse an adapter to everybody, at once",
                body=Body.JSON,
                request=ReasonOrNone,
            ),
            Route(
                "POST",
                f"{one}/accept",
                self.accept,
                "Serve a blocked adapter again; the reason is recorded",
                body=Body.JSON,
                request=Reason,
            ),
            Route(
                "POST",
                f"{one}/retrain",
                self.retrain,
                "Train an adapter's whole chain again on the rows that remain",
                creates=True,
            ),
            Route("DELETE", one, self.delete, "Delete an adapter with its files"),
        ]

    async def list_all(self, call: Call) -> Reply:
        """List adapters."""
        asked = call.query(AdaptersQuery)
        found = await self._adapters.list(Paging(asked.limit, asked.after), document_id=asked.document)
        return json_reply(page(found, views.adapter, lambda one: one.name))

    async def get(self, call: Call) -> Reply:
        """Return an adapter."""
        return json_reply(views.adapter(await self._adapters.get(call.path["adapter"])))

    async def import_archive(self, call: Call) -> Reply:
        """Publish an uploaded adapter, if it can be served."""
        asked = await call.parse(AdapterImport)
        made = await self._adapters.import_archive(asked.file_id, suffix=asked.suffix, principals=asked.access)
        call.touched(made.name)
        return json_reply(views.adapter(made), 201)

    async def block(self, call: Call) -> Reply:
        """Refuse an adapter."""
        asked = await call.parse(ReasonOrNone)
        return json_reply(views.adapter(await self._adapters.block(call.path["adapter"], asked.reason)))

    async def accept(self, call: Call) -> Reply:
        """Serve a blocked adapter again."""
        asked = await call.parse(Reason)
        return json_reply(views.adapter(await self._adapters.accept(call.path["adapter"], asked.reason)))

    async def retrain(self, call: Call) -> Reply:
        """Train an adapter's chain again."""
        again = await self._adapters.retrain(call.path["adapter"])
        return json_reply({"jobs": list(again.job_ids), "rows_left_out": again.rows_left_out}, 202)

    async def delete(self, call: Call) -> Reply:
        """Delete an adapter."""
        name = call.path["adapter"]
        await self._adapters.delete(name)
        return json_reply({"name": name, "deleted": True})
