"""What runs inside vLLM's worker processes beside vLLM's own code."""

from collections.abc import Callable
from typing import Any, Final

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

__all__ = ["EXTENSION", "WorkerExtension"]

# How the engine's options name the class below.
EXTENSION: Final = "services.generation.backends.vllm_worker.WorkerExtension"
_OPERATIONS: Final = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")


class WorkerExtension:
    """Methods that vLLM adds to its worker, to be called from outside by their names."""

    def keep_base_rows(self) -> bool:
        """Make the CPU's LoRA operations leave rows without an adapter alone; return that it was done.

        Such rows have the index -1, which vLLM up to 0.32 takes for the last of its slots: the base model's answers, and
        those of other tenants, were computed with whatever adapter lies there as soon as a batch holds any adapter
        (vLLM's pull requests 48421 and 49656). Kernels for GPUs skip them.
        """
        for name in _OPERATIONS:
            inner = getattr(lora_ops, name)
            if not hasattr(inner, "keeps_base_rows"):
                operation = _on_adapter_rows(inner)
                for module in (lora_ops, punica_cpu):
                    setattr(module, name, operation)
        return True


def _on_adapter_rows(inner: Callable[..., None]) -> Callable[..., None]:
    """Return a LoRA operation that reads and writes only the rows that have an adapter."""

    def operation(inputs: Any, weights: Any, output: Any, indices: Any, *more: Any) -> None:
        rows = (indices >= 0).nonzero().squeeze(1)
        if len(rows) == len(indices):
            inner(inputs, weights, output, indices, *more)
        elif len(rows):
            part = output[rows]
            inner(inputs[rows], weights, part, indices[rows], *more)
            output[rows] = part

    operation.keeps_base_rows = True  # type: ignore[attr-defined]
    return operation
