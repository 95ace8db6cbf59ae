"""Settings of the chat room, read from the environment once."""

from pydantic import Field

from services.chassis.settings import EventSettings, room_config


class ChatSettings(EventSettings):
    """What the chat room can be told.

    Attributes:
        database_url: Where conversations, receipts and feedback are kept.
        blobs_url: Where what feedback says lies for other rooms: `file:///FOLDER` or `s3://BUCKET`.
        retrieval_address: The retrieval room.
        generation_address: The generation room.
        search_timeout_s: Longest wait for passages, vectors or stored text.
        first_token_timeout_s: Longest wait for the engine's first token, the queue included.
        stall_timeout_s: Longest wait between two steps of the engine.
        top_k: Passages sought when the caller does not say.
        temperature: Temperature of grounded answers when the caller does not say; 0 is greedy.
        frequency_penalty: Penalty on tokens that a grounded answer repeats when the caller does not say: small models
            fall into loops without one.
        sample_temperature: Temperature of answers that are sampled to be compared when the caller does not say.
        sweep_interval_s: How often blobs that belong to nothing are looked for.
        most_history: Most earlier turns that are read from a stored conversation.
        allowed_link_hosts: Hosts that links in grounded answers may lead to; `.example.com` allows all below it.
    """

    model_config = room_config("CHAT")

    database_url: str = "sqlite:///.brain/chat.db"
    blobs_url: str = "file://.brain/blobs"
    retrieval_address: str = "127.0.0.1:50052"
    generation_address: str = "127.0.0.1:50051"
    search_timeout_s: float = Field(default=15.0, gt=0)
    first_token_timeout_s: float = Field(default=120.0, gt=0)
    stall_timeout_s: float = Field(default=60.0, gt=0)
    top_k: int = Field(default=5, ge=1, le=50)
    temperature: float = Field(default=0.0, ge=0, le=2)
    frequency_penalty: float = Field(default=0.3, ge=-2, le=2)
    sample_temperature: float = Field(default=0.8, gt=0, le=2)
    sweep_interval_s: float = Field(default=60.0, gt=0)
    most_history: int = Field(default=20, ge=0, le=200)
    allowed_link_hosts: tuple[str, ...] = ()
