"""TRL's trainer for each stage, set up for this product.

All of them get a model with the adapter to train on it. Where a stage has a reference, TRL copies the adapter as it is
at the start to a second, frozen one named `ref`: that is the stage before, or, where a new adapter begins, whose change
is zero, the base model.
"""

import random
from collections.abc import Mapping
from typing import Any, Final

from datasets import Dataset
from transformers import PrinterCallback
from trl import import_utils

from services.finetuning.domain.training import Stage
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.hardware import Hardware
from services.finetuning.trainer.head import has_plain_head, use_label_head
from services.finetuning.trainer.loop import Loop, Reporter, Session
from services.finetuning.trainer.model import load_policy, load_reward_model
from services.finetuning.trainer.order import EpochPrompts
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rewards import Grader, graded, grader_of, reward_model
from services.finetuning.trainer.rows import TokenRows

# The trainer samples with transformers. TRL would import all of vLLM, ten seconds of work and a gigabyte, to know that
# it could have used it.
import_utils.is_vllm_available = lambda *_, **__: False

from trl import (  # noqa: E402  after the line above
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

__all__ = ["build"]

# Weights of KTO's two kinds of rows are balanced, but a lone vote does not outweigh ten others.
_MOST_WEIGHT: Final = 10.0
# KTO estimates its divergence from the rows that pass together.
_KTO_AT_ONCE: Final = 4


class _Prepared(Loop):
    """A loop over rows that are tokens already: TRL prepares nothing."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class _Sft(Loop, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    pass


class _Dpo(_Prepared, DPOTrainer):  # type: ignore[misc]
    pass


class _Kto(_Prepared, KTOTrainer):  # type: ignore[misc]
    pass


class _Reward(_Prepared, RewardTrainer):  # type: ignore[misc]
    pass


class _Grpo(Loop, GRPOTrainer):  # type: ignore[misc]
    def trained_tokens(self) -> int:
        # Counted with the answers that were drawn, and kept in the state that a checkpoint holds.
        return int(self.state.num_input_tokens_seen)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return EpochPrompts(
            data_source=self.train_dataset if train_dataset is None else train_dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=not self.session.fixed_order,
            seed=self.args.seed,
        )


def build(
    session: Session,
    hardware: Hardware,
    tokenizer: Any,
    rows: TokenRows,
    held_out: TokenRows | None = None,
    grader: Grader | None = None,
) -> Any:
    """Return the stage's trainer, ready to train.

    Args:
        session: The run.
        hardware: Where and how to compute.
        tokenizer: The base model's tokenizer.
        rows: Rows to train on; of RLAIF, the pairs that were judged.
        held_out: Rows to evaluate on.
        grader: Scores answers (RLHF without a reward model).

    Raises:
        Refused: A model or an adapter cannot be used, or there are too few rows.
    """
    session.lengths = rows.lengths
    stage = session.plan.stage
    longest = max(rows.counts.longest, held_out.counts.longest if held_out else 0)
    match stage:
        case Stage.CONTINUED_PRETRAINING | Stage.SUPERVISED | Stage.RAFT:
            make = _supervised
        case Stage.DPO | Stage.RLAIF:
            make = _dpo
        case Stage.KTO:
            make = _kto
        case Stage.REWARD_MODEL:
            make = _reward_model
        case Stage.RLHF:
            make = _rlhf
    if stage is Stage.REWARD_MODEL:
        model = load_reward_model(session.plan, hardware, longest, tokenizer)
    else:
        model = load_policy(session.plan, hardware, longest)
    arguments = {"model": model, "processing_class": tokenizer, "callbacks": []}
    if stage is Stage.RLHF:
        arguments |= _scorer(session, grader)
    trainer = make(session, hardware, rows, held_out, arguments)
    if not hardware.cuda and stage is not Stage.REWARD_MODEL and has_plain_head(model.get_base_model()):
        use_label_head(model.get_base_model())
    trainer.session = session
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Reporter(session, trainer, evaluates=held_out is not None))
    return trainer


def _supervised(
    session: Session, hardware: Hardware, rows: TokenRows, held_out: TokenRows | None, arguments: Mapping[str, Any]
) -> Any:
    config = SFTConfig(
        **_common(session, hardware, rows),
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return _Sft(args=config, train_dataset=_dataset(rows), eval_dataset=_dataset(held_out), **arguments)


def _dpo(
    session: Session, hardware: Hardware, rows: TokenRows, held_out: TokenRows | None, arguments: Mapping[str, Any]
) -> Any:
    config = DPOConfig(
        # Two answers of each row pass together.
        **_common(session, hardware, rows, answers=2),
        max_length=None,
        beta=session.plan.settings.beta,
        loss_type=["sigmoid"],
    )
    return _Dpo(args=config, train_dataset=_dataset(rows), eval_dataset=_dataset(held_out), **arguments)


def _kto(
    session: Session, hardware: Hardware, rows: TokenRows, held_out: TokenRows | None, arguments: Mapping[str, Any]
) -> Any:
    settings = session.plan.settings
    if len(rows) < 2 or settings.batch_size < 2:
        raise Refused(
            FailureCode.INVALID_SETTING,
            "batch_size: kto compares rows within a batch; use at least 2 rows and 2 a batch.",
        )
    good = sum(rows.columns["label"])
    bad = len(rows) - good
    config = KTOConfig(
        **_common(session, hardware, rows, answers=2, least=_KTO_AT_ONCE),
        # What TRL wants to hear; the order is the loop's own, and each row brings the answer that it is compared with.
        train_sampling_strategy="sequential",
        max_length=settings.max_length,
        beta=settings.beta,
        desirable_weight=_weight(bad, good),
        undesirable_weight=_weight(good, bad),
    )
    train = _dataset(_with_others(rows, settings.seed))
    held = _dataset(_with_others(held_out, settings.seed)) if held_out else None
    return _Kto(args=config, train_dataset=train, eval_dataset=held, **arguments)


def _reward_model(
    session: Session, hardware: Hardware, rows: TokenRows, held_out: TokenRows | None, arguments: Mapping[str, Any]
) -> Any:
    config = RewardConfig(**_common(session, hardware, rows, answers=2), max_length=None)
    return _Reward(args=config, train_dataset=_dataset(rows), eval_dataset=_dataset(held_out), **arguments)


def _rlhf(
    session: Session, hardware: Hardware, rows: TokenRows, held_out: TokenRows | None, arguments: Mapping[str, Any]
) -> Any:
    settings = session.plan.settings
    samples = settings.samples_per_prompt
    # A batch that is not full is not taken: with fewer prompts than a batch, none would be.
    prompts = min(settings.batch_size, len(rows))
    common = _common(session, hardware, rows)
    at_once = hardware.rows_at_once(prompts * samples, sum(rows.lengths) / len(rows), rows.counts.longest)
    common |= {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": prompts * samples // at_once,
        "per_device_eval_batch_size": samples,
        "max_steps": _most_steps(settings.max_steps, settings.n_epochs, len(rows) // prompts),
    }
    config = GRPOConfig(
        **common,
        beta=settings.beta,
        num_generations=samples,
        max_completion_length=settings.max_completion_tokens,
        temperature=1.0,
        shuffle_dataset=True,
    )
    return _Grpo(args=config, train_dataset=_dataset(rows), eval_dataset=_dataset(held_out), **arguments)


def _scorer(session: Session, grader: Grader | None) -> Mapping[str, Any]:
    if grader is not None:
        return {"reward_funcs": [graded(grader)]}
    if session.plan.reward_model is None:
        return {"reward_funcs": [graded(grader_of(session.plan.grader_json))]}
    model, tokenizer = reward_model(session.plan.reward_model)
    return {"reward_funcs": [model], "reward_processing_classes": [tokenizer]}


def _common(
    session: Session, hardware: Hardware, rows: TokenRows, *, answers: int = 1, least: int = 1
) -> dict[str, Any]:
    """Return what every stage's trainer is told.

    Args:
        session: The run.
        hardware: Where and how to compute.
        rows: Rows to train on.
        answers: Sequences that one row makes in a pass.
        least: Rows that should pass together.
    """
    plan, settings = session.plan, session.plan.settings
    typical = answers * sum(rows.lengths) / len(rows)
    at_once = hardware.rows_at_once(settings.batch_size, typical, answers * rows.counts.longest, least=least)
    return {
        "output_dir": str(plan.work / "unused"),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": settings.batch_size // at_once,
        # Kto compares rows in evaluations too.
        "per_device_eval_batch_size": max(answers, at_once),
        "num_train_epochs": settings.n_epochs,
        "max_steps": _most_steps(settings.max_steps, settings.n_epochs, -(-len(rows) // settings.batch_size)),
        "learning_rate": settings.learning_rate,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": hardware.bf16,
        "use_cpu": not hardware.cuda,
        # On a CPU memory is plenty, and computing everything twice is not.
        "gradient_checkpointing": hardware.cuda,
        "dataloader_pin_memory": hardware.cuda,
        # The reporter decides on these, and must see every step.
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def _most_steps(wanted: int, epochs: int, per_epoch: int) -> int:
    """Return the steps to stop at; -1 where the epochs end it, which a larger number must not prolong."""
    return wanted if 0 < wanted < epochs * per_epoch else -1


def _weight(others: int, these: int) -> float:
    """Return the weight of one of two kinds of rows, so that both kinds weigh the same together."""
    return min(_MOST_WEIGHT, max(1.0, others / max(1, these)))


def _with_others(rows: TokenRows, seed: int) -> TokenRows:
    """Return KTO's rows, each with the answer of another: how far the policy moved on answers that belong to no prompt."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)  # noqa: S311  an order, no secret
    answers = rows.columns["completion_ids"]
    others: list[Any] = [None] * len(rows)
    for place, other in zip(order, order[-1:] + order[:-1], strict=True):
        others[place] = answers[other]
    return TokenRows({**rows.columns, "KL_completion_ids": others}, rows.lengths, rows.counts)


def _dataset(rows: TokenRows | None) -> Any:
    return None if rows is None else Dataset.from_dict(dict(rows.columns))
