"""Settings of the finetuning room: environment variables `BRAIN_FINETUNING_…`."""

from pathlib import Path

from pydantic import Field, FilePath

from services.chassis.models.folder import PACKAGED, user_cache
from services.chassis.redis_access import RedisSettings
from services.chassis.settings import EventSettings, room_config
from services.finetuning.domain.adapters import Policy
from services.finetuning.domain.training import Device, Precision
from services.finetuning.usecases.promoting import Gate

__all__ = ["FinetuningSettings"]


class FinetuningSettings(EventSettings, RedisSettings):
    """What the finetuning room can be told.

    Attributes:
        database_url: The room's database: `sqlite:///PATH` or `postgresql://…`.
        blobs_url: Where bytes are kept: `file:///FOLDER` or `s3://BUCKET`.
        jobs_url: Who tells workers in other processes of new jobs: `local://` (nobody; one process serves and works) or
            `redis://HOST:PORT/N`.
        ingestion_address: Where the ingestion room answers.
        retrieval_address: Where the retrieval room answers.
        generation_address: Where the generation room answers.
        worker_key_file: Ed25519 private key (PEM) with which the room acts in the name of whoever created a job.
        model: Base model that is trained on; the same as the generation room's: `packaged`, a folder, or a hub name.
        served_name: Name under which the base model is listed; empty takes it from `model`.
        model_licence: Licence of the base model, as it is written into the registry.
        cache_dir: Where the packaged model is kept.
        devices: Jobs that train at once, each on a device of its own.
        call_timeout_s: Longest wait for another room's answer.
        generation_timeout_s: Longest wait for one sampled answer.
        transfer_timeout_s: Longest wait for the bytes of a file.
        served_passages: Passages that the chat room puts into a prompt: reading rows hold as many.
        served_window: Context window in tokens that reading rows must fit.
        job_lease_s: How long a worker that fell silent keeps a job; its training goes on from the newest checkpoint.
        max_deaths: Times in a row that a trainer may die without reaching a further checkpoint before its job fails.
        keep_checkpoints: Checkpoints of a job that are kept.
        price_per_hour: What an hour of training costs, in a currency of your choice; 0 leaves money out of estimates.
        watts: Power that training draws, for the estimate of energy; 0 leaves energy out.
        default_audience: Principals who may ask an adapter when its job does not say otherwise.
        deletion_policy: What happens to adapters when something that they saw is deleted or may be read by fewer: `block`,
            `retrain` (block, and train the chain again on what remains) or `accept`.
        gate: What must hold before a candidate meets callers: `validation_loss`, or `verdict` of the evaluation room.
        canary_weight: Share of callers that a candidate answers while it is tried.
        min_judgements: Judged answers of a candidate that are enough for a decision.
        max_training_file_bytes: Largest training file.
        webhook_secret_file: What the secrets of webhooks are derived from.
        webhook_networks: Private networks (CIDR) that webhooks may be delivered into; empty for public addresses only.
        webhook_http_loopback: Whether webhooks may be delivered to this machine, over http; for tests only.
        device: Where training happens: `auto`, `cpu` or `cuda`.
        precision: How the frozen weights are held while training: `auto`, `bf16` or `fp32`.
        trainer_threads: Threads of a trainer's arithmetic. More than there are cores without other work make it slower.
    """

    model_config = room_config("FINETUNING")

    database_url: str = "sqlite:///.brain/finetuning/room.db"
    blobs_url: str = "file://.brain/blobs"
    jobs_url: str = "local://"
    ingestion_address: str = "127.0.0.1:50053"
    retrieval_address: str = "127.0.0.1:50052"
    generation_address: str = "127.0.0.1:50051"
    worker_key_file: FilePath
    model: str = PACKAGED
    served_name: str = ""
    model_licence: str = "Apache-2.0"
    cache_dir: Path = Field(default_factory=user_cache)
    devices: int = Field(default=1, ge=1, le=64)
    call_timeout_s: float = Field(default=30.0, gt=0)
    generation_timeout_s: float = Field(default=120.0, gt=0)
    transfer_timeout_s: float = Field(default=600.0, gt=0)
    served_passages: int = Field(default=5, ge=1, le=50)
    served_window: int = Field(default=2048, ge=256)
    job_lease_s: float = Field(default=15.0, ge=3)
    max_deaths: int = Field(default=3, ge=1, le=100)
    keep_checkpoints: int = Field(default=3, ge=1, le=100)
    price_per_hour: float = Field(default=0.0, ge=0)
    watts: float = Field(default=0.0, ge=0)
    default_audience: tuple[str, ...] = ("group:everyone",)
    deletion_policy: Policy = Policy.BLOCK
    gate: Gate = Gate.VALIDATION_LOSS
    canary_weight: float = Field(default=0.1, ge=0, lt=1)
    min_judgements: int = Field(default=20, ge=1, le=100_000)
    max_training_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    webhook_secret_file: FilePath
    webhook_networks: tuple[str, ...] = ()
    webhook_http_loopback: bool = False
    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO
    trainer_threads: int = Field(default=1, ge=1, le=1024)
