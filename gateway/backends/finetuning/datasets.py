"""Datasets over gRPC."""

from typing import Final

import grpc

from brain.finetuning.v1 import dataset_pb2
from brain.finetuning.v1.dataset_pb2_grpc import DatasetServiceStub
from gateway.backends.finetuning import words
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S
from gateway.domain.keeping import Page, Paging
from gateway.domain.tuning import Dataset, DatasetSpec
from services.chassis.rpc.client import remote

__all__ = ["GrpcDatasets"]

_ROOM: Final = "finetuning"


class GrpcDatasets:
    """Training rows.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = DatasetServiceStub(channel)

    async def build(self, name: str, spec: DatasetSpec) -> Dataset:
        """Keep a dataset and queue the work that makes its rows."""
        request = dataset_pb2.BuildDatasetRequest(name=name, spec=words.dataset_spec_to(spec))
        with remote(_ROOM, "BuildDataset") as metadata:
            answer = await self._stub.BuildDataset(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.dataset(answer.dataset)

    async def get(self, dataset_id: str) -> Dataset:
        """Return a dataset."""
        request = dataset_pb2.GetDatasetRequest(dataset_id=dataset_id)
        with remote(_ROOM, "GetDataset") as metadata:
            answer = await self._stub.GetDataset(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.dataset(answer.dataset)

    async def list(self, paging: Paging) -> Page[Dataset]:
        """Return the tenant's datasets, newest first."""
        request = dataset_pb2.ListDatasetsRequest(limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListDatasets") as metadata:
            answer = await self._stub.ListDatasets(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.dataset(one) for one in answer.datasets), answer.has_more)

    async def delete(self, dataset_id: str) -> None:
        """Forget a dataset and delete its files."""
        request = dataset_pb2.DeleteDatasetRequest(dataset_id=dataset_id)
        with remote(_ROOM, "DeleteDataset") as metadata:
            await self._stub.DeleteDataset(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
