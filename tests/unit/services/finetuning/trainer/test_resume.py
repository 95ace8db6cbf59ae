"""Training that is killed or paused goes on from its checkpoint as if nothing had been."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.chassis.errors import Unavailable
from services.finetuning.backends.trainer_process import TrainerProcess
from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan
from services.finetuning.domain.training_messages import CheckpointSaved, Finished, Message, Metrics, Paused, Started
from services.finetuning.trainer.process import PauseWish

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]

# Dropout draws at every step, and two epochs have two orders: what goes on must find its place in both.
WHOLE = {
    "n_epochs": 2,
    "max_steps": 0,
    "checkpoint_every": 2,
    "lora": LoraShape(rank=4, alpha=8.0, dropout=0.2),
}


def close(curve: dict[int, float]) -> Any:
    return pytest.approx(curve, rel=1e-4)


class PauseAt(PauseWish):
    """Wishes to pause once a step was told."""

    def __init__(self, step: int, messages: list[Message]) -> None:
        super().__init__()
        self._step = step
        self.messages = messages

    def send(self, message: Message) -> None:
        self.messages.append(message)
        self.told = self.told or (isinstance(message, Metrics) and message.step >= self._step)


def paused_at(step: int, plan: TrainingPlan, resume: Path | None = None) -> tuple[list[Message], Message]:
    from services.finetuning.trainer.run import train

    wish = PauseAt(step, [])
    return wish.messages, train(plan, send=wish.send, pause=wish, resume=resume)


async def test_a_killed_trainer_goes_on_from_its_checkpoint(plans: Plans, trained: Trained) -> None:
    """In real processes: one is killed without warning, the next is paused, and the rest is trained here."""
    plan = plans(Stage.SUPERVISED, settings=WHOLE)
    trains = TrainerProcess(environment=os.environ, nice=0)
    pause = asyncio.Event()
    heard: list[Message] = []

    async def kill(message: Message) -> None:
        heard.append(message)
        if isinstance(message, CheckpointSaved):
            # Killed when it has gone on: of the third step nothing is left but what was told.
            (child,) = (it for it in psutil.Process().children() if "services.finetuning.trainer" in it.cmdline())
            child.send_signal(signal.SIGKILL)

    with pytest.raises(Unavailable, match="SIGKILL"):
        await trains.train(plan, resume_from=None, on_message=kill, pause=pause)
    newest = trains.newest_checkpoint(plan)
    assert newest is not None
    first = {it.step: it.values["loss"] for it in heard if isinstance(it, Metrics)}

    heard.clear()

    async def stop(message: Message) -> None:
        heard.append(message)
        if isinstance(message, Started):
            pause.set()

    end = await trains.train(plan, resume_from=newest, on_message=stop, pause=pause)
    started = next(it for it in heard if isinstance(it, Started))
    assert newest == plan.checkpoint(started.step)
    assert started.step >= 2
    assert isinstance(end, Paused)
    assert end.folder == plan.checkpoint(end.step)
    second = {it.step: it.values["loss"] for it in heard if isinstance(it, Metrics)}
    assert min(second) == started.step + 1

    rest = trained(plan, resume=end.folder)
    whole = trained(dataclasses.replace(plan, work=plan.work.parent / "again"))
    assert rest.finished.step == whole.finished.step == 6
    assert rest.finished.trained_tokens == whole.finished.trained_tokens
    # At most one interval was lost, and each step is what it would have been.
    assert first | second | rest.curve() == close(whole.curve())


@pytest.mark.parametrize("stage", [Stage.DPO, Stage.REWARD_MODEL, Stage.RLHF], ids=lambda it: it.value)
def test_every_kind_of_stage_goes_on_where_it_paused(stage: Stage, plans: Plans, trained: Trained) -> None:
    more = {"grader_json": "{}"} if stage is Stage.RLHF else {}
    settings = WHOLE | {"n_epochs": 1, "checkpoint_every": 10}
    plan = plans(stage, settings=settings, **more)
    whole = plans(stage, settings=settings, **more)
    if stage is Stage.RLHF:
        from services.finetuning.trainer import run

        score = {"grader": lambda text, row: float(len(text))}
        wish = PauseAt(1, [])
        last: Message = run.train(plan, send=wish.send, pause=wish, **score)  # type: ignore[arg-type]
        rest, every = trained(plan, resume=plan.checkpoint(2), **score), trained(whole, **score)
    else:
        messages, last = paused_at(1, plan)
        assert messages[-1] == last
        rest, every = trained(plan, resume=plan.checkpoint(2)), trained(whole)
    # Asked when the first step was told: the one that had begun by then is still taken.
    assert last == Paused(2, plan.checkpoint(2))
    assert rest.curve() == close({3: every.curve()[3]})
    assert rest.finished.step == every.finished.step
    assert rest.finished.trained_tokens == every.finished.trained_tokens


def test_a_finished_training_that_is_begun_again_only_gives_its_result(plans: Plans, trained: Trained) -> None:
    plan = plans(Stage.SUPERVISED)
    first = trained(plan)
    again = trained(plan, resume=plan.checkpoint(2))
    assert isinstance(again.last, Finished)
    assert again.curve() == {}
    assert again.finished.trained_tokens == first.finished.trained_tokens
    assert again.finished.metrics == first.finished.metrics
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert [(again.adapter / name).read_bytes() for name in names] == [
        (plan.checkpoint(2) / "adapter" / name).read_bytes() for name in names
    ]


def test_who_pauses_before_the_first_step_finds_everything_as_it_was(plans: Plans) -> None:
    from services.finetuning.trainer.run import train

    wish = PauseWish()
    wish.told = True
    plan = plans(Stage.SUPERVISED)
    assert train(plan, send=lambda _: None, pause=wish) == Paused(0, None)
    assert not plan.checkpoints.exists()


def test_sigterm_is_the_wish_to_pause() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        wish = PauseWish()
        wish.listen()
        assert not wish.told
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.told
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("worth_s", "steps"), [(0.0, [1, 2, 3, 4, 5, 6]), (3600.0, [6])])
def test_what_takes_no_time_is_not_kept_again_and_again(
    worth_s: float, steps: list[int], plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.finetuning.trainer.loop._WORTH_KEEPING_S", worth_s)
    done = trained(plans(Stage.SUPERVISED, settings=WHOLE | {"checkpoint_every": 0}))
    assert [it.step for it in done.of(CheckpointSaved)] == steps


def test_an_interval_that_was_asked_for_is_kept(plans: Plans, trained: Trained) -> None:
    done = trained(plans(Stage.SUPERVISED, settings=WHOLE))
    assert [it.step for it in done.of(CheckpointSaved)] == [2, 4, 6]
