"""DatasetService."""

from typing import Final

from brain.finetuning.v1 import dataset_pb2
from services.chassis.auth import current_caller
from services.chassis.errors import InvalidInput
from services.finetuning.api.wire import moment, page_of
from services.finetuning.domain.building import BuildSpec, DatasetKind
from services.finetuning.domain.datasets import Dataset, DatasetStatus, drawn_seed
from services.finetuning.usecases.datasets import Datasets

__all__ = ["DatasetServicer"]

_KINDS: Final = {
    dataset_pb2.DATASET_KIND_TEXT: DatasetKind.TEXT,
    dataset_pb2.DATASET_KIND_QUESTIONS: DatasetKind.QUESTIONS,
    dataset_pb2.DATASET_KIND_RAFT: DatasetKind.RAFT,
    dataset_pb2.DATASET_KIND_KTO: DatasetKind.KTO,
    dataset_pb2.DATASET_KIND_PREFERENCES: DatasetKind.PREFERENCES,
    dataset_pb2.DATASET_KIND_IMPORT: DatasetKind.IMPORT,
    dataset_pb2.DATASET_KIND_PROMPTS: DatasetKind.PROMPTS,
}
_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}
_STATUS: Final = {
    DatasetStatus.BUILDING: dataset_pb2.DATASET_STATUS_BUILDING,
    DatasetStatus.READY: dataset_pb2.DATASET_STATUS_READY,
    DatasetStatus.FAILED: dataset_pb2.DATASET_STATUS_FAILED,
}
_SHARES: Final = ("gold_share", "unanswerable_share", "held_out_share")


class DatasetServicer:
    """Datasets over gRPC."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    async def BuildDataset(
        self, request: dataset_pb2.BuildDatasetRequest, context: object
    ) -> dataset_pb2.BuildDatasetResponse:
        """Keep a dataset and have its rows made."""
        made = await self._datasets.create(current_caller(), request.name, _spec(request.spec))
        return dataset_pb2.BuildDatasetResponse(dataset=_dataset(made))

    async def GetDataset(
        self, request: dataset_pb2.GetDatasetRequest, context: object
    ) -> dataset_pb2.GetDatasetResponse:
        """Return a dataset."""
        found = await self._datasets.get(current_caller(), request.dataset_id)
        return dataset_pb2.GetDatasetResponse(dataset=_dataset(found))

    async def ListDatasets(
        self, request: dataset_pb2.ListDatasetsRequest, context: object
    ) -> dataset_pb2.ListDatasetsResponse:
        """Return a page of datasets."""
        found, has_more = await self._datasets.page(current_caller(), page_of(request))
        return dataset_pb2.ListDatasetsResponse(datasets=[_dataset(one) for one in found], has_more=has_more)

    async def DeleteDataset(
        self, request: dataset_pb2.DeleteDatasetRequest, context: object
    ) -> dataset_pb2.DeleteDatasetResponse:
        """Forget a dataset and delete its files."""
        await self._datasets.delete(current_caller(), request.dataset_id)
        return dataset_pb2.DeleteDatasetResponse()


def _spec(message: dataset_pb2.DatasetSpec) -> BuildSpec:
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise InvalidInput(
            f"kind: give one of {', '.join(one.value for one in DatasetKind)}, not {message.kind}.", param="kind"
        )
    return BuildSpec(
        kind=kind,
        seed=message.seed if message.HasField("seed") else drawn_seed(),
        collection_ids=tuple(message.collection_ids),
        document_ids=tuple(message.document_ids),
        file_id=message.file_id,
        format=message.format,
        max_rows=message.max_rows,
        passages_per_row=message.passages_per_row,
        phrasings=message.phrasings or 3,
        writer_model=message.writer_model,
        **_shares(message),
    )


def _shares(message: dataset_pb2.DatasetSpec) -> dict[str, float]:
    """Return the shares that were given; of the two that make 1, one says the other."""
    given = {name: getattr(message, name) for name in _SHARES if message.HasField(name)}
    for one, other in (("gold_share", "unanswerable_share"), ("unanswerable_share", "gold_share")):
        if one in given and other not in given:
            given[other] = round(1 - given[one], 6)
    return given


def _dataset(dataset: Dataset) -> dataset_pb2.Dataset:
    spec = dataset.spec
    return dataset_pb2.Dataset(
        dataset_id=dataset.dataset_id,
        name=dataset.name,
        created_at=moment(dataset.created_at),
        status=_STATUS[dataset.status],
        spec=dataset_pb2.DatasetSpec(
            kind=_NUMBERS[spec.kind],
            collection_ids=spec.collection_ids,
            document_ids=spec.document_ids,
            file_id=spec.file_id,
            format=spec.format,
            max_rows=spec.max_rows,
            passages_per_row=spec.passages_per_row,
            gold_share=spec.gold_share,
            unanswerable_share=spec.unanswerable_share,
            phrasings=spec.phrasings,
            held_out_share=spec.held_out_share,
            seed=spec.seed,
            writer_model=spec.writer_model,
        ),
        training_file=dataset.training_file,
        held_out_file=dataset.held_out_file,
        rows=dataset.rows,
        held_out_rows=dataset.held_out_rows,
        documents=dataset.documents,
        judgements=dataset.judgements,
        report_json=dataset.report_json,
        error=dataset.error,
        owner=dataset.owner.subject,
    )
