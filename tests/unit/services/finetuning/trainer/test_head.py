"""The output layer for labelled tokens says what the whole one says, and passes the same gradients on."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def model(tiny: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32, attn_implementation="eager")


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_says_what_the_models_own_layer_says(model: Any, temperature: float) -> None:
    import torch

    from services.finetuning.trainer.head import use_label_head

    ids = torch.randint(0, 49_000, (3, 120), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[:, :30] = -100
    labels[1, 60:] = -100
    logits = model(input_ids=ids).logits[:, :-1].double() / temperature
    known = labels[:, 1:] != -100
    every = logits.log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    weights = torch.rand(every.shape, generator=torch.Generator().manual_seed(4), dtype=torch.double)
    ((every * weights)[known]).sum().backward()
    layer = model.model.layers[0].self_attn.q_proj.weight
    gradient, layer.grad = layer.grad.clone(), None

    use_label_head(model, temperature)
    found = model(input_ids=ids, labels=labels, fused_lm_head=True)
    assert torch.equal(found.label_mask, known)
    torch.testing.assert_close(found.log_probs.double()[known], every[known], atol=1e-4, rtol=1e-4)
    assert not found.log_probs[~known].any()
    assert torch.equal(found.is_top1[known], (logits.argmax(-1) == ids[:, 1:])[known])
    torch.testing.assert_close(found.mean_logits.double()[known], logits.mean(-1)[known], atol=1e-4, rtol=1e-3)
    (found.log_probs * weights).sum().backward()
    # The tied embedding is frozen in training; what is compared is what flows below the output layer.
    torch.testing.assert_close(layer.grad, gradient, atol=1e-4, rtol=1e-3)


def test_rows_without_labels_give_nothing_and_break_nothing(model: Any) -> None:
    import torch

    from services.finetuning.trainer.head import use_label_head

    use_label_head(model)
    ids = torch.randint(0, 49_000, (2, 10))
    found = model(input_ids=ids, labels=torch.full_like(ids, -100), fused_lm_head=True)
    found.log_probs.sum().backward()
    assert not found.log_probs.any()


def test_without_being_asked_the_model_answers_as_before(model: Any) -> None:
    import torch

    from services.finetuning.trainer.head import use_label_head

    ids = torch.randint(0, 49_000, (2, 10))
    before = model(input_ids=ids, labels=ids)
    use_label_head(model)
    after = model(input_ids=ids, labels=ids)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.loss, after.loss)


def test_models_that_change_their_logits_keep_their_own_layer(model: Any) -> None:
    from services.finetuning.trainer.head import has_plain_head

    assert has_plain_head(model)
    model.config.final_logit_softcapping = 30.0
    assert not has_plain_head(model)
