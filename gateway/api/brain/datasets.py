"""Datasets: training rows made from documents, judgements and files."""

from gateway.api.brain import tuning_views as views
from gateway.api.brain.tuning_requests import DatasetBody, NewestQuery
from gateway.api.brain.views import page
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.keeping import Paging
from gateway.domain.tuning import DatasetSpec
from gateway.ports import Datasets

__all__ = ["DatasetRoutes"]

_PATH = "/brain/v1/datasets"


class DatasetRoutes:
    """Answers for datasets.

    Args:
        datasets: The finetuning room's.
    """

    def __init__(self, *, datasets: Datasets) -> None:
        self._datasets = datasets

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_PATH}/{{dataset_id}}"
        return [
            Route(
                "POST",
                _PATH,
                self.build,
                "Make training rows; the dataset becomes ready or failed",
                body=Body.JSON,
                request=DatasetBody,
                creates=True,
            ),
            Route("GET", _PATH, self.list_all, "List datasets, newest first", query=NewestQuery),
            Route("GET", one, self.get, "Return a dataset with the report of its making"),
            Route("DELETE", one, self.delete, "Delete a dataset with its files"),
        ]

    async def build(self, call: Call) -> Reply:
        """Begin to make rows."""
        asked = await call.parse(DatasetBody)
        made = await self._datasets.build(
            asked.name,
            DatasetSpec(
                kind=asked.kind,
                collection_ids=tuple(asked.collections),
                document_ids=tuple(asked.documents),
                file_id=asked.file_id,
                format=asked.format,
                max_rows=asked.max_rows or 0,
                passages_per_row=asked.passages_per_row or 0,
                gold_share=asked.gold_share,
                unanswerable_share=asked.unanswerable_share,
                phrasings=asked.phrasings or 0,
                held_out_share=asked.held_out_share,
                seed=asked.seed,
                writer_model=asked.writer_model,
            ),
        )
        call.touched(made.id)
        return json_reply(views.dataset(made), 202)

    async def list_all(self, call: Call) -> Reply:
        """List datasets."""
        asked = call.query(NewestQuery)
        found = await self._datasets.list(Paging(asked.limit, asked.after))
        return json_reply(page(found, views.dataset, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a dataset."""
        return json_reply(views.dataset(await self._datasets.get(call.path["dataset_id"])))

    async def delete(self, call: Call) -> Reply:
        """Delete a dataset."""
        identity = call.path["dataset_id"]
        await self._datasets.delete(identity)
        return json_reply({"id": identity, "deleted": True})
