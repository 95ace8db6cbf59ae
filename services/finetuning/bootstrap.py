"""Makes the room's choices and joins its parts."""

import asyncio
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import grpc
import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from brain.finetuning.v1 import (
    adapter_pb2_grpc,
    dataset_pb2_grpc,
    grader_pb2_grpc,
    job_pb2_grpc,
    promotion_pb2_grpc,
    webhook_pb2_grpc,
)
from services.chassis.auth import WorkerMinter
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.database import Database, migrate
from services.chassis.errors import Unavailable
from services.chassis.events.consumer import EventConsumer
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.events.outbox import Outbox, OutboxRelay
from services.chassis.jobs.embedded import EmbeddedWorker
from services.chassis.jobs.table import JobTable
from services.chassis.lifecycle import Lifecycle
from services.chassis.models.folder import BaseModel, open_model
from services.chassis.rpc.client import connect
from services.chassis.rpc.server import RpcServer
from services.chassis.rpc.tls import tls_files
from services.finetuning import consumer, tasks
from services.finetuning.api.adapters import AdapterServicer
from services.finetuning.api.datasets import DatasetServicer
from services.finetuning.api.graders import GraderServicer
from services.finetuning.api.jobs import JobServicer
from services.finetuning.api.promotions import PromotionServicer
from services.finetuning.api.webhooks import WebhookServicer
from services.finetuning.backends import serving, tables
from services.finetuning.backends.delegation import KeyedDelegation
from services.finetuning.backends.grader_embedder import RemoteEmbedder
from services.finetuning.backends.grader_judge import RemoteJudge
from services.finetuning.backends.ingestion import RemoteFiles
from services.finetuning.backends.ledger import SqlLedger
from services.finetuning.backends.readers import RemoteReaders
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.backends.trainer_process import ProcessTrainer
from services.finetuning.backends.webhook_sender import HttpWebhookSender
from services.finetuning.backends.webhook_store import SqlWebhookStore
from services.finetuning.consumer import Events
from services.finetuning.domain.jobs import JobStatus
from services.finetuning.domain.reach import reach_of
from services.finetuning.policy import POLICY
from services.finetuning.ports.training import Trainer
from services.finetuning.settings import FinetuningSettings
from services.finetuning.telemetry import Metrics
from services.finetuning.usecases.archives import Archives
from services.finetuning.usecases.checking import CheckRows
from services.finetuning.usecases.completing import Complete
from services.finetuning.usecases.datasets import BuildDataset, Datasets
from services.finetuning.usecases.grading import GradeAnswer
from services.finetuning.usecases.importing import ImportAdapter
from services.finetuning.usecases.jobs import Jobs
from services.finetuning.usecases.judgements import HearJudgements
from services.finetuning.usecases.preparing import Prepare
from services.finetuning.usecases.promoting import Promotions
from services.finetuning.usecases.publishing import BaseFacts, Publish
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.registry import Registry
from services.finetuning.usecases.retraining import Retrain
from services.finetuning.usecases.training import TrainJob
from services.finetuning.usecases.validating import CheckJob, Inspect, ValidateJob
from services.finetuning.usecases.webhooks import DeliverWebhooks, Webhooks
from services.finetuning.usecases.withdrawing import Withdraw

__all__ = ["ROLES", "Role", "join", "serve"]
