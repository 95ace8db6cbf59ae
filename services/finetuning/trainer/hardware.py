"""What this machine's arithmetic can do, and the choices that follow from it."""

from dataclasses import dataclass
from typing import Final

import torch

from services.finetuning.domain.training import Device, Precision, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.refusal import Refused

__all__ = ["Hardware", "hardware_for"]

# Up to this length, attention written out as two products is up to twice as fast on a CPU as the fused kernel, whose
# backward pass in bf16 is slow; beyond it, the whole matrix of scores costs too much memory and time.
_WRITTEN_OUT_TOKENS: Final = 512
# Tokens in one forward pass: of typical rows, enough to keep the units busy, and no more, for more rows are more padding
# (rows of 200 tokens: 800 at once took as long as 200, or a third longer, by their lengths); of the longest, few enough
# for the activations to fit (about a megabyte a token for a model of 135 million parameters).
_BUSY_TOKENS: Final = 256
_MOST_TOKENS_CPU: Final = 2048
_MOST_TOKENS_CUDA: Final = 16_384


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and how to compute.

    Attributes:
        cuda: Whether on a CUDA device; else on the CPU.
        bf16: Whether the frozen weights and products are bf16; adapters' weights are 32-bit floats in any case.
    """

    cuda: bool
    bf16: bool

    @property
    def dtype(self) -> torch.dtype:
        """Type of the frozen weights."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def attention(self, longest: int) -> str:
        """Return the attention implementation for rows of up to `longest` tokens."""
        return "eager" if not self.cuda and longest <= _WRITTEN_OUT_TOKENS else "sdpa"

    def rows_at_once(self, batch: int, typical: float, longest: int, *, least: int = 1) -> int:
        """Return how many rows of a batch to take in one pass, so that passes of equal size make up the batch.

        Args:
            batch: Rows in one step.
            typical: Mean tokens of a row.
            longest: Tokens of the longest row.
            least: Rows that should pass together, whatever they take.
        """
        fit = (_MOST_TOKENS_CUDA if self.cuda else _MOST_TOKENS_CPU) // longest
        if not self.cuda:
            fit = min(fit, round(_BUSY_TOKENS / typical))
        parts = [size for size in range(1, batch + 1) if batch % size == 0]
        chosen = max(size for size in parts if size <= max(fit, 1))
        return max(chosen, min(size for size in parts if size >= min(least, batch)))


def hardware_for(plan: TrainingPlan) -> Hardware:
    """Return what the plan asks for, or what this machine does best.

    Raises:
        Refused: The plan asks for what is not there.
    """
    cuda = torch.cuda.is_available() if plan.device is Device.AUTO else plan.device is Device.CUDA
    if cuda and not torch.cuda.is_available():
        raise Refused(FailureCode.INVALID_SETTING, "device: no CUDA device is here; use cpu or auto.")
    fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _cpu_multiplies_bf16()
    return Hardware(cuda=cuda, bf16=fast_bf16 if plan.precision is Precision.AUTO else plan.precision is Precision.BF16)


def _cpu_multiplies_bf16() -> bool:
    """Return whether the CPU has instructions for bf16 products; without them bf16 is emulated and slower than 32 bits."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
