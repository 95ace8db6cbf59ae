"""The output layer for tokens that are learnt only, and without keeping any logits.

TRL's trainers ask the model for log-probabilities of labels. On a CPU its own head projects every token, masked ones
too, and walks over the whole vocabulary a dozen times in 32-bit floats; that is most of a step of a small model with
a large vocabulary. Here only labelled tokens are projected, and since the output layer is frozen, the gradient with
respect to a token's state, W[label] - softmax(W h) W, is made in the forward pass from logits that are then let go.
"""

import functools
import types
from typing import Any, Final

import torch
from trl.trainer.utils import FusedCausalLMOutput

from services.finetuning.trainer.rendering import IGNORED

__all__ = ["has_plain_head", "label_logprobs", "use_label_head"]

# Settings of models that change the logits after the output layer.
_CHANGED_LOGITS: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)

# Tokens projected at once: 64 MB of 32-bit logits with a vocabulary of 49,152, and the product is at its best speed.
_TOKENS_AT_ONCE: Final = 320


def has_plain_head(model: Any) -> bool:
    """Return whether a model's logits are its output layer's product and nothing else."""
    config = model.config.get_text_config()
    changed = any(getattr(config, name, None) not in (None, 1, 1.0) for name in _CHANGED_LOGITS)
    return not changed and getattr(model.get_output_embeddings(), "bias", None) is None


def use_label_head(model: Any, temperature: float = 1.0) -> None:
    """Have `model(…, labels=…, fused_lm_head=True)` score labelled tokens only.

    The answer has what TRL's trainers read of it. Of the entropies, which only feed a metric that is not reported here,
    it has zeros.

    Args:
        model: Causal language model with a frozen, plain output layer.
        temperature: What logits are divided by.
    """
    plain = getattr(type(model), "forward")  # noqa: B009  the class's own, whatever was put over it

    @functools.wraps(plain)
    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        if not fused_lm_head:
            return plain(self, *args, labels=labels, **kwargs)
        assert labels is not None
        kwargs["use_cache"] = False
        states = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        known = targets != IGNORED
        weight = self.get_output_embeddings().weight
        found, is_top = label_logprobs(states[known], weight, targets[known], temperature)
        # The mean logit is linear in the state: no logits are needed for it.
        mean = (states[known].detach().float() @ weight.float().mean(0)) / temperature

        def placed(values: torch.Tensor) -> torch.Tensor:
            return values.new_zeros(known.shape).masked_scatter(known, values)

        logprobs = placed(found)
        return FusedCausalLMOutput(
            loss=-logprobs.sum() / known.sum().clamp(min=1),
            log_probs=logprobs,
            entropy=torch.zeros_like(logprobs, requires_grad=False),
            mean_logits=placed(mean),
            is_top1=placed(is_top),
            label_mask=known,
        )

    model.forward = types.MethodType(forward, model)


def label_logprobs(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each target, and whether it is the likeliest token.

    Args:
        states: Last hidden states, (tokens, width).
        weight: Output layer, (vocabulary, width); it gets no gradient.
        targets: Ids, (tokens,).
        temperature: What logits are divided by.
    """
    found, is_top = _LabelLogprobs.apply(states, weight, targets, temperature)
    return found, is_top


class _LabelLogprobs(torch.autograd.Function):  # type: ignore[misc]  # torch has no types here
    """Log-probabilities of targets, with the gradient made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kind = weight.dtype
        logprobs = torch.empty(len(states), dtype=torch.float32, device=states.device)
        is_top = torch.empty(len(states), dtype=torch.bool, device=states.device)
        slope = torch.empty(states.shape, dtype=torch.float32, device=states.device) if states.requires_grad else None
        for start in range(0, len(states), _TOKENS_AT_ONCE):
            part = slice(start, start + _TOKENS_AT_ONCE)
            labels = targets[part].unsqueeze(1)
            logits = (states[part].to(kind) @ weight.t()).float().div_(temperature)
            total = logits.logsumexp(1, keepdim=True)
            wanted = logits.gather(1, labels)
            logprobs[part] = (wanted - total).squeeze(1)
            is_top[part] = (wanted >= logits.amax(1, keepdim=True)).squeeze(1)
            if slope is not None:
                # d log p(label) / d logits = 1[label] - p, in the place of the logits.
                share = logits.sub_(total).exp_().neg_()
                share.scatter_add_(1, labels, torch.ones_like(wanted))
                slope[part] = (share.to(kind) @ weight).float().div_(temperature)
        ctx.mark_non_differentiable(is_top)
        ctx.save_for_backward(*(() if slope is None else (slope,)))
        ctx.kind = states.dtype
        return logprobs, is_top

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (grads[0].unsqueeze(1) * slope).to(ctx.kind), None, None, None
