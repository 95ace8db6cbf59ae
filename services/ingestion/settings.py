"""Settings of the ingestion room: environment variables `BRAIN_INGESTION_…`."""

from pydantic import Field

from services.chassis.redis_access import RedisSettings
from services.chassis.settings import EventSettings, room_config

__all__ = ["IngestionSettings"]


class IngestionSettings(EventSettings, RedisSettings):
    """What the ingestion room can be told.

    Attributes:
        database_url: The room's database: `sqlite:///PATH` or `postgresql://…`.
        blobs_url: Where bytes are kept: `file:///FOLDER` or `s3://BUCKET`.
        jobs_url: Who tells workers in other processes of new jobs: `local://` (nobody; one process serves and works) or
            `redis://HOST:PORT/N`.
        retrieval_address: Where the retrieval room answers.
        retrieval_timeout_s: How long retrieval may take to withhold one document.
        max_file_bytes: Largest file that is kept.
        max_document_bytes: Largest file that is made a document.
        parse_concurrency: Documents that are read at the same time, each in a child process of its own.
        require_seccomp: Whether to refuse to read documents where the kernel cannot deny system calls to the readers.
        job_lease_s: How long a worker that fell silent keeps a job; what it was reading is read again after that.
        job_attempts: How often a document is tried before it is FAILED.
        sweep_interval_s: How often expired things are looked for.
    """

    model_config = room_config("INGESTION")

    database_url: str = "sqlite:///.brain/ingestion/room.db"
    blobs_url: str = "file://.brain/blobs"
    jobs_url: str = "local://"
    retrieval_address: str = "127.0.0.1:50052"
    retrieval_timeout_s: float = Field(default=10.0, gt=0)
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_document_bytes: int = Field(default=100 * 1024 * 1024, ge=1)
    parse_concurrency: int = Field(default=2, ge=1, le=64)
    require_seccomp: bool = True
    job_lease_s: float = Field(default=10.0, ge=1)
    job_attempts: int = Field(default=4, ge=1, le=20)
    sweep_interval_s: float = Field(default=60.0, gt=0)
