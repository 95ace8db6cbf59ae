"""Settings of the gateway: environment variables `BRAIN_GATEWAY_…`."""

from pathlib import Path

from pydantic import Field

from services.chassis.redis_access import RedisSettings
from services.chassis.settings import room_config

__all__ = ["GatewaySettings"]


class GatewaySettings(RedisSettings):
    """What the gateway can be told.

    Attributes:
        database_url: `sqlite:///PATH` or `postgresql://…`.
        ingestion_address: Where the ingestion room listens.
        retrieval_address: Where the retrieval room listens.
        generation_address: Where the generation room listens.
        chat_address: Where the chat room listens.
        finetuning_address: Where the finetuning room listens.
        token_private_key_file: Ed25519 key (PEM) that internal tokens are signed with.
        api_key_secret_file: What API keys are hashed with; without it the database's hashes are worthless.
        token_lifetime_s: How long an internal token is good for: as long as the longest request.
        limits_url: Where requests are counted: `memory://` (this process alone) or `redis://HOST:PORT/N`, which several
            gateways share.
        requests_per_minute: Limit of keys that have none of their own.
        max_concurrent: Requests at once of keys that have no limit of their own.
        tenant_requests_per_minute: Limit of all keys of a tenant together.
        tenant_max_concurrent: Requests at once of all keys of a tenant together: less than in all, so that none takes all.
        max_in_flight: Requests at once in all, in this process.
        max_json_bytes: Largest JSON body: long conversations with inline documents fit.
        max_upload_bytes: Largest file.
        body_patience_s: How long a request's head, or the next piece of its body, may take.
        stall_s: How long a reader may take nothing of its answer.
        answer_timeout_s: Deadline of an answer, the longest of all calls.
    """

    model_config = room_config("GATEWAY")

    database_url: str = "sqlite:///.brain/gateway/room.db"
    ingestion_address: str
    retrieval_address: str
    generation_address: str
    chat_address: str
    finetuning_address: str = "127.0.0.1:50056"
    token_private_key_file: Path
    api_key_secret_file: Path
    token_lifetime_s: int = Field(900, ge=60)
    limits_url: str = "memory://"
    requests_per_minute: int = Field(6000, ge=1)
    max_concurrent: int = Field(64, ge=1)
    tenant_requests_per_minute: int = Field(60_000, ge=1)
    tenant_max_concurrent: int = Field(384, ge=1)
    max_in_flight: int = Field(512, ge=1)
    max_json_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    max_upload_bytes: int = Field(512 * 1024 * 1024, ge=1024)
    body_patience_s: float = Field(30.0, gt=0)
    stall_s: float = Field(30.0, gt=0)
    answer_timeout_s: float = Field(600.0, gt=0, le=870)
