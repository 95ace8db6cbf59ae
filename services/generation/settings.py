"""Settings of the generation room: environment variables `BRAIN_GENERATION_…`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.chassis.models.folder import PACKAGED, user_cache
from services.chassis.settings import EventSettings, room_config

__all__ = ["GenerationSettings"]


class GenerationSettings(EventSettings):
    """What the generation room can be told.

    Attributes:
        engine: `vllm://` or `scripted://?mode=echo|canned|paced|obedient|extract` (docs/scripted-engine.md).
        model: `packaged` (SmolLM2-135M-Instruct from the installed package), a local folder in the Hugging Face layout,
            or a name on the hub.
        served_name: Name under which the base model is listed; empty takes it from `model`.
        database_url: What of adapters is remembered over a restart; empty takes a SQLite file in `state_dir`.
        events_url: The event log, where adapters and aliases are announced; empty takes `state_dir/events.db`.
        blobs_url: Where the files of announced adapters lie, shared with finetuning; empty takes `state_dir/blobs`.
        adapters_dir: Folder with the adapters on this machine: those that were fetched, and what is to be registered by
            hand; empty takes `state_dir/adapters`.
        max_adapters_on_disk: Fetched adapters that are kept in that folder, beside those in use or used half a minute ago;
            others are fetched again when asked for.
        cache_dir: Where the packaged model and the engine's compiled code are kept.
        dtype: Number format of the weights; `auto` takes the model's own, and float32 on a CPU without AVX-512.
        max_model_len: Context window in tokens; 0 takes the model's own, and 2,048 for the packaged model.
        max_loras: Adapters in one batch.
        max_cpu_loras: Adapters kept in memory; the rest is read again from disk when asked for. As many of the newest are
            loaded at a start.
        max_lora_rank: Largest rank of an adapter.
        max_adapter_bytes: Largest weights file of an adapter.
        kv_cache_gib: Memory for keys and values on a CPU, GiB.
        gpu_memory_utilization: Share of a GPU's memory that the engine takes.
        tensor_parallel_size: GPUs that share each layer; it must divide the model's attention heads (docs/generation.md).
        pipeline_parallel_size: Groups of such GPUs, each with some of the layers; their product is how many GPUs are taken.
        distributed_executor: Who runs the parts: `mp` are processes of this machine, `ray` those of a Ray cluster, which
            must be there; `auto` lets the engine choose.
        kv_cache_dtype: Number format of keys and values; `auto` takes that of the weights.
        quantization: How weights are to be made smaller as they are loaded (`fp8`, …, as the engine knows them); empty takes
            them as the model's files are.
        block_size: Tokens in a block of the prefix cache; 0 lets the engine choose (32 on a CPU, whose own choice of
            128 would give short prompts no hits).
        eager: Run without compilation: `auto` compiles on a GPU only.
        max_num_seqs: Sequences in one batch; 0 lets the engine choose.
        max_inflight: Continuations produced at once; more are refused with RESOURCE_EXHAUSTED.
        probe_every_s: Seconds between two looks at the engine's progress.
        probe_timeout_s: Seconds without progress after which the engine counts as stuck.
        standstill_timeout_s: Seconds after which it does when its processes take no processor time either, however slow
            the machine: what runs is then ended with an error.
        offline: Never ask the hub (with the packaged model and local folders it is not asked anyway).
    """

    model_config = room_config("GENERATION")

    engine: str = "vllm://"
    model: str = PACKAGED
    served_name: str = ""
    database_url: str = ""
    events_url: str = ""
    blobs_url: str = ""
    adapters_dir: Path | None = None
    max_adapters_on_disk: int = Field(default=64, ge=1, le=10_000)
    cache_dir: Path = Field(default_factory=user_cache)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int = Field(default=0, ge=0)
    max_loras: int = Field(default=4, ge=1, le=64)
    max_cpu_loras: int = Field(default=16, ge=1, le=1024)
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 16
    max_adapter_bytes: int = Field(default=1 << 30, gt=0)
    kv_cache_gib: int = Field(default=1, ge=1)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    distributed_executor: Literal["auto", "mp", "ray"] = "auto"
    kv_cache_dtype: Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"] = "auto"
    quantization: str = ""
    block_size: int = Field(default=0, ge=0)
    eager: Literal["auto", "true", "false"] = "auto"
    max_num_seqs: int = Field(default=0, ge=0)
    max_inflight: int = Field(default=64, ge=1)
    probe_every_s: float = Field(default=5.0, gt=0)
    probe_timeout_s: float = Field(default=24.0, gt=0)
    standstill_timeout_s: float = Field(default=5.0, gt=0)
    offline: bool = False

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value.partition("://")[0] not in {"vllm", "scripted"} or "://" not in value:
            raise ValueError("use vllm:// or scripted://?mode=echo|canned|paced|obedient|extract")
        return value

    @property
    def adapters(self) -> Path:
        """Folder that adapters must lie in."""
        return self.adapters_dir or self.state_dir / "adapters"

    @property
    def events(self) -> str:
        """The event log."""
        return self.events_url or f"sqlite:///{self.state_dir / 'events.db'}"

    @property
    def blobs(self) -> str:
        """Where the files of announced adapters lie."""
        return self.blobs_url or f"file://{self.state_dir / 'blobs'}"

    @property
    def database(self) -> str:
        """What of adapters is remembered over a restart."""
        return self.database_url or f"sqlite:///{self.state_dir / 'room.db'}"
