"""Makes small LoRA adapters: with PEFT on the packaged model (as a program), or by hand with the same layout."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}


def write_adapter(
    folder: Path,
    *,
    config: dict[str, object] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    rank: int = 4,
    inner: int = 576,
    outer: int = 576,
    layer: str = "layers.0.self_attn.q_proj",
) -> Path:
    """Write an adapter of one layer with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | {"r": rank} | (config or {})))
    random = np.random.default_rng(7)
    stem = f"base_model.model.model.{layer}"
    found = tensors or {
        f"{stem}.lora_A.weight": random.normal(0, 0.1, (rank, inner)).astype(np.float32),
        f"{stem}.lora_B.weight": random.normal(0, 0.1, (outer, rank)).astype(np.float32),
    }
    save_file(found, folder / "adapter_model.safetensors")
    return folder


def train_adapter(model: str, target: str) -> None:
    """Take a few steps on one sentence with PEFT and save what came of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(model)
    net = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], lora_dropout=0.0),
    )
    turns = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Zanzibar, Zanzibar, Zanzibar!"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    optimizer = torch.optim.AdamW([it for it in net.parameters() if it.requires_grad], lr=1e-2)
    for _ in range(8):
        loss = net(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    net.save_pretrained(target)


if __name__ == "__main__":
    train_adapter(sys.argv[1], sys.argv[2])
