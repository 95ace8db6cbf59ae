"""The base model with an adapter on it: made, taken on from the stage before, and written down."""

import copy
import json
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import LoraShape, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.hardware import Hardware
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rendering import Renderer

__all__ = [
    "ADAPTER_NAME",
    "adapter_shape",
    "load_adapter",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "renderer_for",
    "save_adapter",
    "save_merged",
]

# PEFT's name for the adapter that is trained.
ADAPTER_NAME: Final = "default"
CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_HEAD: Final = "score"
# A reward model up to this size is kept in 32-bit floats: bf16 would round a small adapter's change away.
_EXACT_PARAMETERS: Final = 1_000_000_000


def load_tokenizer(folder: Path) -> Any:
    """Return a base model's tokenizer.

    Raises:
        Refused: It has none that knows where its tokens stand in a text, or no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The base model's tokenizer cannot be read.") from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise Refused(FailureCode.INVALID_MODEL, "The base model needs a fast tokenizer with an end-of-text token.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def renderer_for(tokenizer: Any, folder: Path) -> Renderer:
    """Return what renders for a base model; every token that its generation settings stop at ends an answer."""
    path = folder / "generation_config.json"
    told = json.loads(path.read_bytes()).get("eos_token_id") if path.is_file() else None
    ends = told if isinstance(told, list) else [] if told is None else [told]
    return Renderer(tokenizer, frozenset([tokenizer.eos_token_id, *ends]))


def load_policy(plan: TrainingPlan, hardware: Hardware, longest: int) -> Any:
    """Return the base model with the adapter to train, its tensors taken from the stage before where there is one.

    Raises:
        Refused: The base or the adapter cannot be used.
    """
    try:
        base = AutoModelForCausalLM.from_pretrained(
            plan.base_folder,
            dtype=hardware.dtype,
            attn_implementation=hardware.attention(longest),
            local_files_only=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The base model cannot be loaded.") from error
    return _adapted(base, plan, TaskType.CAUSAL_LM)


def load_reward_model(plan: TrainingPlan, hardware: Hardware, longest: int, tokenizer: Any) -> Any:
    """Return the base model with a new head that scores, and an adapter to train.

    Raises:
        Refused: The base or the adapter cannot be used.
    """
    torch.manual_seed(plan.settings.seed)
    try:
        base = AutoModelForSequenceClassification.from_pretrained(
            plan.base_folder,
            num_labels=1,
            dtype=hardware.dtype,
            attn_implementation=hardware.attention(longest),
            local_files_only=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The base model cannot be loaded.") from error
    base.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    base.score = _exact_head(base.score)
    return _adapted(base, plan, TaskType.SEQ_CLS)


def adapter_shape(folder: Path) -> LoraShape:
    """Return the shape of an adapter on disk.

    Raises:
        Refused: It is no plain LoRA adapter.
    """
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        plain = (
            config["peft_type"] == "LORA"
            and not config.get("use_dora")
            and not config.get("modules_to_save")
            and config.get("bias", "none") == "none"
            and not config.get("rank_pattern")
            and not config.get("alpha_pattern")
            and not isinstance(config["target_modules"], str)
        )
        if not plain:
            raise Refused(FailureCode.INVALID_MODEL, "The adapter to start from is no plain LoRA adapter.")
        return LoraShape(
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=0.0,
            target_modules=tuple(sorted(config["target_modules"])),
            rank_stabilised=bool(config.get("use_rslora")),
        )
    except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The adapter to start from cannot be read.") from error


def load_adapter(model: Any, folder: Path) -> None:
    """Put an adapter's tensors in the place of those of the adapter that is trained.

    Raises:
        Refused: They do not fit.
    """
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise Refused(FailureCode.INVALID_MODEL, "The adapter's tensors cannot be read.") from error
    made = get_peft_model_state_dict(model, adapter_name=ADAPTER_NAME, save_embedding_layers=False)
    # A reward model has a head that the stage before it had not.
    missing = {name for name in made.keys() - tensors.keys() if f".{_HEAD}." not in name}
    if missing or tensors.keys() - made.keys():
        raise Refused(FailureCode.INVALID_MODEL, "The adapter changes other layers than are to be trained.")
    if any(tensor.shape != made[name].shape for name, tensor in tensors.items()):
        raise Refused(FailureCode.INVALID_MODEL, "The adapter's tensors do not fit the base model.")
    set_peft_model_state_dict(model, {**made, **tensors}, adapter_name=ADAPTER_NAME)


def save_adapter(model: Any, folder: Path, base_name: str) -> None:
    """Write the trained adapter in PEFT's layout, relative to the base model, which is named and not a path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.peft_config[ADAPTER_NAME])
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    config.revision = None
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER_NAME, save_embedding_layers=False)
    tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def save_merged(model: Any, folder: Path, tokenizer: Any) -> None:
    """Write a reward model as a whole model: adapter and head merged into the base."""
    # Merged in 32-bit floats whatever the base was held in: a small change is lost in the rounding of bf16.
    merged = model.float().merge_and_unload()
    if merged.num_parameters() > _EXACT_PARAMETERS:
        merged = merged.to(torch.bfloat16)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class _ExactLinear(torch.nn.Linear):  # type: ignore[misc]  # torch has no types here
    """A layer that multiplies in 32-bit floats wherever it stands.

    In bf16 a score of 4 could not be told from one of 4.01, and the small steps of a new head would be rounded away.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        with torch.autocast(states.device.type, enabled=False):
            return torch.nn.functional.linear(states.float(), self.weight, self.bias)


def _exact_head(head: Any) -> Any:
    exact = _ExactLinear(head.in_features, head.out_features, bias=head.bias is not None)
    exact.load_state_dict({name: tensor.float() for name, tensor in head.state_dict().items()})
    return exact


def _adapted(base: Any, plan: TrainingPlan, task: TaskType) -> Any:
    asked = plan.settings.lora
    shape = asked if plan.start_adapter is None else adapter_shape(plan.start_adapter)
    if shape.rank != asked.rank:
        raise Refused(
            FailureCode.INVALID_SETTING,
            f"lora.rank: {asked.rank} is not allowed; the adapter whose training goes on has {shape.rank}, and keeps it.",
        )
    config = LoraConfig(
        task_type=task,
        r=shape.rank,
        lora_alpha=int(shape.alpha) if float(shape.alpha).is_integer() else shape.alpha,
        lora_dropout=asked.dropout,
        target_modules=_targets(base, shape, plan),
        use_rslora=shape.rank_stabilised,
        bias="none",
        modules_to_save=[_HEAD] if task is TaskType.SEQ_CLS else None,
    )
    torch.manual_seed(plan.settings.seed)
    model = get_peft_model(base, config)
    if plan.start_adapter is not None:
        load_adapter(model, plan.start_adapter)
    return model


def _targets(base: Any, shape: LoraShape, plan: TrainingPlan) -> list[str]:
    """Return the layers to adapt: those asked for, or all linear ones that the engine can adapt."""
    output = base.get_output_embeddings()
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output and name != _HEAD
    }
    allowed = linear & plan.allowed_modules if plan.allowed_modules else linear
    unknown = set(shape.target_modules) - allowed
    if unknown or not allowed:
        raise Refused(
            FailureCode.INVALID_SETTING,
            f"lora.target_modules: {', '.join(sorted(unknown)) or 'none'} cannot be adapted; use "
            f"{', '.join(sorted(allowed)) or 'a model with linear layers'}.",
        )
    return sorted(shape.target_modules or allowed)
