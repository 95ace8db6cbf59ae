"""What every stage's training loop has in common: its order of rows, its checkpoints, and what it reports."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerState

from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import CheckpointSaved, FailureCode, Metrics, Started
from services.finetuning.trainer.checkpoints import ADAPTER, publish
from services.finetuning.trainer.model import load_adapter, save_adapter
from services.finetuning.trainer.order import EpochOrder
from services.finetuning.trainer.process import PauseWish, Send
from services.finetuning.trainer.refusal import Refused

__all__ = ["Loop", "Reporter", "Session", "rate_share"]

_STATE: Final = "trainer_state.json"
_PROGRESS: Final = "progress.json"
# A loss of a step and a divergence are told as they are; what else TRL measures is told under the names of one glossary.
_TOLD: Final[Mapping[str, str]] = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "mean_token_accuracy": "mean_token_accuracy",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_reward": "reward",
    "reward": "reward",
    "reward_std": "reward_std",
    "kl": "kl",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "clipped_ratio",
}
_EVAL: Final = "eval_"
# Parts of the whole after which a checkpoint is written and the held-out rows are evaluated, where nothing else is said.
_CHECKPOINTS: Final = 20
_EVALUATIONS: Final = 10
# Seconds of work that are worth a checkpoint, where nothing else is said: one is written, packed, kept and, at the end,
# published, about a second each on a CPU.
_WORTH_KEEPING_S: Final = 60.0
# The first steps of Adam know little of the gradients' size.
_WARM_UP: Final = 0.03


@dataclass(slots=True)
class Session:
    """One run of a plan, and what is known of it so far.

    Attributes:
        plan: What is trained.
        send: Tells the parent.
        pause: Whether somebody wants it to stop.
        lengths: Tokens of each row.
        fixed_order: Whether rows keep their own order.
        quiet: Whether nothing is told and no checkpoint is written: a dry run.
        latest: The newest value of each metric.
        tokens_before: Tokens trained on before this process.
        stopped: Whether training ended because of the wish to pause.
        times: Seconds and tokens of each step of this process.
    """

    plan: TrainingPlan
    send: Send
    pause: PauseWish
    lengths: Sequence[int] = ()
    fixed_order: bool = False
    quiet: bool = False
    latest: dict[str, float] = field(default_factory=dict)
    tokens_before: int = 0
    stopped: bool = False
    times: list[tuple[float, int]] = field(default_factory=list)


def rate_share(step: int, total: int) -> float:
    """Return the share of the peak rate at a step: up over the first hundredths, then down in a line, to 0 behind the last.

    >>> [rate_share(step, 4) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    warm = math.ceil(_WARM_UP * total)
    return min(1.0, (step + 1) / warm) * max(0.0, (total - step) / total)


class Loop:
    """Mixed into TRL's trainers, before them.

    `session` is set once the trainer is made. Nothing of it runs in the constructor.
    """

    session: Session
    state: Any
    model: Any
    args: Any
    optimizer: Any
    lr_scheduler: Any

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card beside a checkpoint: what is known of an adapter stands in the registry."""

    def _send_telemetry(self) -> None:
        """Tell nobody that training happens here."""

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        settings = self.session.plan.settings
        return EpochOrder(self.session.lengths, settings.batch_size, settings.seed, fixed=self.session.fixed_order)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the falling rate; transformers' own begins with a step at rate 0, a twelfth of a short training."""
        optimizer = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = LambdaLR(optimizer, lambda step: rate_share(step, num_training_steps))
        return self.lr_scheduler

    def trained_tokens(self) -> int:
        """Return how many tokens were trained on, padding left out, by this process and those before it."""
        return self.session.tokens_before + int(getattr(self, "_total_train_tokens"))  # noqa: B009  TRL's own count

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = int(self.state.global_step)
        folder = publish(self.session.plan.checkpoint(step), self._fill)
        adapter = folder / ADAPTER if self.session.plan.stage.makes_adapter else None
        self.session.send(CheckpointSaved(step, folder, adapter, dict(self.session.latest)))

    def _fill(self, folder: Path) -> None:
        save_adapter(self.model, folder / ADAPTER, self.session.plan.base_name)
        self._save_optimizer_and_scheduler(str(folder))  # type: ignore[attr-defined]
        self._save_rng_state(str(folder))  # type: ignore[attr-defined]
        self.state.save_to_json(str(folder / _STATE))
        progress = {"tokens": self.trained_tokens(), "metrics": self.session.latest}
        (folder / _PROGRESS).write_text(json.dumps(progress))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_adapter(self.model if model is None else model, folder / ADAPTER)
        progress = json.loads((folder / _PROGRESS).read_bytes())
        self.session.tokens_before = int(progress["tokens"])
        self.session.latest |= progress["metrics"]

    def go_on(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint where there is one; from the last one there is nothing to train."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / _STATE))
            if state.global_step >= state.max_steps:
                self._load_from_checkpoint(str(checkpoint))
                self.state = state
                return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))  # type: ignore[attr-defined]


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Tells what happens, decides when to save and evaluate, and stops what cannot go on.

    Args:
        session: The run.
        trainer: What trains.
        evaluates: Whether there are held-out rows.
    """

    def __init__(self, session: Session, trainer: Any, *, evaluates: bool) -> None:
        self._session = session
        self._trainer = trainer
        self._evaluates = evaluates
        self._save_every = 1
        self._evaluate_every = 1
        self._least_s = 0.0
        self._saved = 0.0
        self._began = 0.0
        self._tokens = 0
        self._speed = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how much there is to do."""
        settings = self._session.plan.settings
        total = int(state.max_steps)
        self._save_every = settings.checkpoint_every or max(1, math.ceil(total / _CHECKPOINTS))
        self._least_s = 0.0 if settings.checkpoint_every else _WORTH_KEEPING_S
        self._saved = time.perf_counter()
        self._evaluate_every = settings.evaluate_every or max(1, math.ceil(total / _EVALUATIONS))
        parameters = sum(it.numel() for it in self._trainer.model.parameters() if it.requires_grad)
        if not self._session.quiet:
            self._session.send(
                Started(total, parameters, self._save_every, self._evaluate_every, step=int(state.global_step))
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time, so that saving and evaluating do not count as training."""
        self._began = time.perf_counter()
        self._tokens = self._trainer.trained_tokens()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decide what follows the step."""
        session, step = self._session, int(state.global_step)
        took, tokens = time.perf_counter() - self._began, self._trainer.trained_tokens() - self._tokens
        session.times.append((took, tokens))
        self._speed = tokens / took
        # What was measured is told, not kept: a checkpoint would otherwise grow with every step.
        state.log_history.clear()
        if session.quiet:
            return
        last = step >= state.max_steps
        session.stopped = session.pause.told and not last
        control.should_training_stop = control.should_training_stop or session.stopped
        is_due = step % self._save_every == 0 and time.perf_counter() - self._saved >= self._least_s
        control.should_save = last or session.stopped or is_due
        control.should_evaluate = self._evaluates and not session.stopped and (last or step % self._evaluate_every == 0)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time from which work could be lost."""
        self._saved = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Tell what was measured; a loss that is no number ends the training before it can be saved."""
        if not logs or ("loss" not in logs and not any(name.startswith(_EVAL) for name in logs)):
            return
        step = int(state.global_step)
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(logs[name]):
                raise Refused(
                    FailureCode.LOSS_NOT_FINITE,
                    f"The loss is not a finite number after step {step} ({name}); a lower learning_rate_multiplier or "
                    "cleaner rows may help.",
                )
        values = _values(logs)
        if "loss" in logs:
            values |= {"tokens": float(self._trainer.trained_tokens()), "tokens_per_s": self._speed}
        self._session.latest |= values
        if not self._session.quiet:
            self._session.send(Metrics(step, float(state.epoch or 0.0), values))


def _values(logs: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, value in logs.items():
        held_out = name.startswith(_EVAL)
        known = _TOLD.get(name.removeprefix(_EVAL))
        if known and isinstance(value, int | float) and math.isfinite(value):
            values[f"valid_{known}" if held_out else known] = float(value)
    return values
