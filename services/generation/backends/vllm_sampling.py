"""How tokens are drawn, in vLLM's words, and what vLLM says when it refuses."""

from typing import Final

from vllm import SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from services.chassis.errors import InvalidInput
from services.generation.domain import Sampling

__all__ = ["params_of", "reason_of"]

_MAX_REASON_CHARS: Final = 300


def params_of(sampling: Sampling) -> SamplingParams:
    """Return the engine's parameters.

    Raises:
        InvalidInput: The engine takes them not; the message is its own.
    """
    structured = None
    if sampling.json_schema:
        structured = StructuredOutputsParams(json=sampling.json_schema)
    elif sampling.json_object:
        structured = StructuredOutputsParams(json_object=True)
    try:
        return SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            stop=list(sampling.stop),
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            ignore_eos=sampling.ignore_eos,
            logprobs=sampling.top_logprobs if sampling.logprobs else None,
            structured_outputs=structured,
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )
    except (VLLMClientError, ValueError) as error:
        raise InvalidInput(f"sampling: {reason_of(error)}", param="sampling") from error


def reason_of(error: BaseException) -> str:
    """Return the engine's own words, without a traceback it may carry and not at any length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:_MAX_REASON_CHARS]
