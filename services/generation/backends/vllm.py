"""vLLM's engine in this process: the front end here, the model in child processes of its own."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
import torch
from vllm import SamplingParams, TokensPrompt
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.metrics.loggers import StatLoggerBase

from services.chassis.errors import BrainError, InvalidInput, Unavailable
from services.generation.backends.orphan_guard import OrphanGuard
from services.generation.backends.vllm_sampling import params_of, reason_of
from services.generation.backends.vllm_tokens import EngineTokens
from services.generation.backends.vllm_worker import EXTENSION
from services.generation.domain import (
    Adapter,
    Alternative,
    EncodedPrompt,
    Finish,
    Model,
    Prompt,
    Score,
    Step,
    TokenLogprob,
    Work,
)

__all__ = ["VllmEngine", "VllmOptions"]

_log = structlog.get_logger()
_FINISH: Final = {"stop": Finish.STOP, "length": Finish.LENGTH, "abort": Finish.CANCELLED, "error": Finish.ERROR}
# The CPU's own block size of 128 would give prompts of a few hundred tokens hardly a prefix hit.
_CPU_BLOCK: Final = 32


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How the engine is started.

    Attributes:
        model: Folder or hub name.
        name: Name under which the base model is listed.
        base_digest: SHA-256 over its weight files.
        template_hash: SHA-256 of its chat template.
        max_model_len: Context window; 0 takes the model's own.
        eager: None compiles on a GPU only.
        distributed_executor: `mp` or `ray`; `auto` lets the engine choose.
        kv_cache_dtype: Number format of keys and values.
        quantization: How weights are made smaller as they are loaded; empty takes them as they are.
        lora_modules: Layers that adapters may change, by the last part of their names.
        block_size: Tokens in a block of the prefix cache; 0 lets us choose on a CPU and the engine on a GPU.
        max_num_seqs: Sequences in one batch; 0 lets the engine choose.
    """

    model: str
    name: str
    base_digest: str
    template_hash: str
    dtype: str
    max_model_len: int
    lora_modules: tuple[str, ...]
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    gpu_memory_utilization: float
    tensor_parallel_size: int
    pipeline_parallel_size: int
    distributed_executor: str
    kv_cache_dtype: str
    quantization: str
    block_size: int
    eager: bool | None
    max_num_seqs: int

    @property
    def compiles_nothing(self) -> bool:
        """Whether the engine runs as it is written: on a CPU, unless it is told otherwise."""
        return current_platform.is_cpu() and self.eager is not False

    @property
    def _executor(self) -> Any:
        if self.distributed_executor != "auto":
            return self.distributed_executor
        # One process less to start and to keep in memory where there is nothing to share.
        single = self.tensor_parallel_size * self.pipeline_parallel_size == 1
        return UniProcExecutor if current_platform.is_cpu() and single else None

    def engine_args(self) -> AsyncEngineArgs:
        """Return vLLM's own form."""
        cpu = current_platform.is_cpu()
        return AsyncEngineArgs(
            model=self.model,
            served_model_name=self.name,
            dtype=_dtype(self.dtype),
            max_model_len=self.max_model_len or None,
            enforce_eager=cpu if self.eager is None else self.eager,
            enable_lora=True,
            lora_target_modules=list(self.lora_modules),
            max_loras=self.max_loras,
            max_cpu_loras=max(self.max_cpu_loras, self.max_loras),
            max_lora_rank=self.max_lora_rank,
            enable_prefix_caching=True,
            block_size=self.block_size or (_CPU_BLOCK if cpu else None),
            gpu_memory_utilization=self.gpu_memory_utilization,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            max_num_seqs=self.max_num_seqs or None,
            # Reading a prompt in parts brings the CPU worker down when the request has a seed (its generator cannot be set
            # back), so prompts are read whole there.
            enable_chunked_prefill=False if cpu else None,
            distributed_executor_backend=self._executor,
            kv_cache_dtype=self.kv_cache_dtype,
            quantization=self.quantization or None,
            trust_remote_code=False,
            worker_extension_cls=EXTENSION if cpu else "",
            enable_log_requests=False,
            disable_log_stats=False,
            # Sampling defaults are the contract's, not a file's beside the weights.
            generation_config="vllm",
        )


class VllmEngine:
    """The engine. Make it with `start`.

    Args:
        llm: vLLM's front end.
        options: How it was started.
        guard: Clears the engine's processes away if this one is killed.
        pulse: Counts the engine's steps.
    """

    def __init__(self, llm: AsyncLLM, *, options: VllmOptions, guard: OrphanGuard, pulse: "_Pulse") -> None:
        self._llm = llm
        self._pulse = pulse
        self._guard = guard
        self._tokens = EngineTokens(llm.get_tokenizer())
        self._base = Model(
            options.name,
            llm.model_config.max_model_len,
            "vllm",
            datetime.now(UTC),
            base_digest=options.base_digest,
            template_hash=options.template_hash,
        )
        self._numbers = itertools.count()

    @classmethod
    async def start(cls, options: VllmOptions, guard: OrphanGuard) -> "VllmEngine":
        """Start the engine's processes and wait until the weights are loaded (tens of seconds).

        Raises:
            InvalidInput: The options do not fit the model or the machine.
            Unavailable: The engine did not come up.
        """
        pulse = _Pulse()
        try:
            # This blocks: nothing is served yet, and the engine's processes must be started before gRPC's threads.
            llm = AsyncLLM.from_engine_args(options.engine_args(), stat_loggers=[pulse.logger])
        except (ValueError, VLLMClientError, OSError) as error:
            raise InvalidInput(
                f"model: {options.model!r} cannot be served ({reason_of(error)}).", param="model"
            ) from error
        except RuntimeError as error:
            raise Unavailable("The engine did not come up.", private=repr(error)) from error
        engine = cls(llm, options=options, guard=guard, pulse=pulse)
        if current_platform.is_cpu():
            await llm.collective_rpc("keep_base_rows")
        # The first step of a fresh engine is many times slower than all others; nobody should wait for it later.
        await engine.probe()
        return engine

    @property
    def base(self) -> Model:
        """The base model."""
        return self._base

    @property
    def steps(self) -> int:
        """Steps that the engine's processes have reported."""
        return self._pulse.steps

    def processor_s(self) -> float:
        """Return the processor time that the engine's processes have taken."""
        return self._guard.processor_s()

    async def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Return the prompt as the model sees it."""
        return await self._tokens.encode_prompt(prompt)

    async def tokenize(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of texts."""
        return [await self._tokens.encode(text) for text in texts]

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return self._tokens.decode(ids)

    async def generate(self, work: Work) -> AsyncGenerator[Step, None]:
        """Yield what the engine produces."""
        cached = 0
        async with aclosing(self._outputs(work.prompt.ids, params_of(work.sampling), work)) as outputs:
            async for output in outputs:
                cached = max(cached, output.num_cached_tokens or 0)
                for part in output.outputs:
                    finish = None if part.finish_reason is None else _FINISH.get(part.finish_reason, Finish.STOP)
                    logprobs = self._logprobs(part, work.sampling.top_logprobs) if work.sampling.logprobs else ()
                    yield Step(part.index, part.text, part.token_ids, logprobs, finish, cached)

    async def score(self, work: Work, continuation: str) -> Score:
        """Score the tokens from the first that holds a character of the continuation."""
        prompt = work.prompt
        if prompt.text is None:
            ids = prompt.ids + await self._tokens.encode(continuation)
        else:
            # Raw text begins as `encode` begins it; a rendered conversation already holds its special tokens.
            ids = await self._tokens.encode(prompt.text + continuation, special=prompt.conversation is None)
        common = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(prompt.ids, ids, strict=False))
        )
        if common == len(ids):
            raise InvalidInput("continuations: one of them adds no token.", param="continuations")
        if common == 0:
            # The first token of all has no probability of its own; give it something to follow.
            ids, common = (self._tokens.first_id, *ids), 1
        if len(ids) >= self._base.context_window:
            raise InvalidInput(
                f"continuations: prompt and continuation have {len(ids)} tokens; the context window has "
                f"{self._base.context_window}.",
                param="continuations",
            )
        params = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        async with aclosing(self._outputs(ids, params, work)) as outputs:
            async for output in outputs:
                rows = output.prompt_logprobs
                return Score(tuple(rows[place][ids[place]].logprob for place in range(common, len(ids))))
        raise Unavailable("The engine ended without an answer.")

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter into the engine's processes."""
        try:
            await self._llm.add_lora(_lora(adapter))
        except EngineDeadError as error:
            raise _dead(error) from error
        except Exception as error:  # whatever the engine's loader raises is about these files
            raise InvalidInput(f"adapter: the engine refuses it ({reason_of(error)}).", param="adapter") from error

    async def unload(self, adapter: Adapter) -> None:
        """Forget an adapter."""
        try:
            await self._llm.remove_lora(adapter.number)
        except EngineDeadError as error:
            raise _dead(error) from error

    def check(self) -> None:
        """Return unless the engine's processes died."""
        if self._llm.errored:
            raise Unavailable("The engine died.")

    async def probe(self) -> None:
        """Produce one token."""
        params = SamplingParams(max_tokens=1, temperature=0, output_kind=RequestOutputKind.FINAL_ONLY)
        async with aclosing(self._outputs((self._tokens.first_id,), params, None)) as outputs:
            async for _ in outputs:
                pass

    async def close(self) -> None:
        """Stop the engine's processes."""
        await asyncio.to_thread(self._llm.shutdown, 5.0)
        await asyncio.to_thread(self._guard.close)

    async def _outputs(
        self, ids: Sequence[int], params: SamplingParams, work: Work | None
    ) -> AsyncGenerator[Any, None]:
        prompt = TokensPrompt(prompt_token_ids=list(ids), cache_salt=work.salt if work else "probe")
        stream = self._llm.generate(
            prompt,
            params,
            f"gen-{next(self._numbers)}",
            lora_request=_lora(work.adapter) if work and work.adapter else None,
        )
        try:
            async with aclosing(stream) as outputs:
                async for output in outputs:
                    yield output
        except EngineDeadError as error:
            raise _dead(error) from error
        except (VLLMClientError, ValueError) as error:
            raise InvalidInput(f"The engine refuses the request: {reason_of(error)}") from error
        except EngineGenerateError as error:
            raise _failed(error) from error

    def _logprobs(self, part: Any, alternatives: int) -> tuple[TokenLogprob, ...]:
        found = []
        for number, row in zip(part.token_ids, part.logprobs or (), strict=False):
            ranked = sorted((it.rank or 0, other, it.logprob) for other, it in row.items())
            top = tuple(self._alternative(other, value) for rank, other, value in ranked if rank <= alternatives)
            said = self._alternative(number, row[number].logprob)
            found.append(TokenLogprob(said.token, said.token_bytes, said.logprob, top))
        return tuple(found)

    def _alternative(self, number: int, logprob: float) -> Alternative:
        data = self._tokens.token_bytes(number)
        return Alternative(data.decode("utf-8", "replace"), data, logprob)


class _Pulse:
    """Counts the engine's steps, those included that only read a part of a long prompt."""

    def __init__(self) -> None:
        self.steps = 0

    def logger(self, vllm_config: VllmConfig, engine_index: int = 0) -> StatLoggerBase:
        """Return a logger for one engine process, as vLLM asks for it."""
        return _PulseLogger(vllm_config, engine_index, self)


class _PulseLogger(StatLoggerBase):  # type: ignore[misc]  # vLLM is read without its types
    """Hears of every step."""

    def __init__(self, vllm_config: VllmConfig, engine_index: int, pulse: _Pulse) -> None:
        self._pulse = pulse

    def record(self, *_: object, **__: object) -> None:
        """Count a step."""
        self._pulse.steps += 1

    def log_engine_initialized(self) -> None:
        """Nothing to say."""


def _dtype(wanted: str) -> str:
    """Return the number format; a CPU without AVX-512 computes bfloat16 many times slower than float32."""
    slow = current_platform.is_cpu() and torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "NO AVX", "AVX2"}
    return "float32" if wanted == "auto" and slow else wanted


def _lora(adapter: Adapter) -> LoRARequest:
    # The number keeps two tenants' adapters of one name apart.
    return LoRARequest(f"{adapter.number}:{adapter.name}", adapter.number, adapter.files.path)


def _dead(error: EngineDeadError) -> Unavailable:
    return Unavailable("The engine died.", private=repr(error), retry_after_s=10.0)


def _failed(error: EngineGenerateError) -> BrainError:
    cause = error.__cause__
    if isinstance(cause, VLLMClientError | ValueError):
        return InvalidInput(f"The engine refuses the request: {reason_of(cause)}")
    return Unavailable("The engine failed on this request.", private=repr(cause or error), retry_after_s=1.0)
