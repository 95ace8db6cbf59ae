"""A child for each training: heard in order, paused, ended with its task, and its end told for what it was."""

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from services.chassis.errors import BrainError, Internal, InvalidInput, Unavailable
from services.finetuning.backends.trainer_process import TrainerProcess
from services.finetuning.domain.training import Stage, TrainingPlan, TrainingSettings
from services.finetuning.domain.training_messages import Finished, Message, Paused, Started, encode

START = encode(Started(total_steps=4, trainable_parameters=1, checkpoint_every=1, evaluate_every=1))
FINISH = encode(Finished(step=4, trained_tokens=9, metrics={}, adapter_folder=Path("/w/adapter")))


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    settings = TrainingSettings(n_epochs=1, batch_size=1, learning_rate=1e-4, beta=0.1)
    return TrainingPlan(Stage.DPO, tmp_path, "base", tmp_path / "rows.jsonl", tmp_path / "work", settings)


def trainer(tmp_path: Path, program: str, *, grace_s: float = 5.0) -> TrainerProcess:
    path = tmp_path / "child.py"
    path.write_text("import os, signal, sys, time\n" + textwrap.dedent(program))
    return TrainerProcess(
        environment={"PATH": os.environ["PATH"], "WHO": "me"},
        threads=3,
        nice=4,
        grace_s=grace_s,
        command=(sys.executable, str(path)),
    )


async def heard(
    trains: TrainerProcess, plan: TrainingPlan, resume: Path | None = None
) -> tuple[list[Message], Finished | Paused | BrainError]:
    messages: list[Message] = []

    async def hear(message: Message) -> None:
        messages.append(message)

    try:
        return messages, await trains.train(plan, resume_from=resume, on_message=hear, pause=asyncio.Event())
    except BrainError as error:
        return messages, error


async def test_the_child_is_heard_in_order_and_its_result_returned(tmp_path: Path, plan: TrainingPlan) -> None:
    program = f"""
        print('noise', file=sys.stderr)
        print({START!r}, flush=True)
        print({FINISH!r}, flush=True)
    """
    messages, end = await heard(trainer(tmp_path, program), plan)
    assert [encode(it) for it in messages] == [START, FINISH]
    assert isinstance(end, Finished)
    assert end.adapter_folder == Path("/w/adapter")


async def test_the_child_is_told_plan_checkpoint_parent_and_manners(tmp_path: Path, plan: TrainingPlan) -> None:
    program = f"""
        open({str(tmp_path / "plan")!r}, 'w').write(open(sys.argv[1]).read())
        open({str(tmp_path / "told")!r}, 'w').write('|'.join([*sys.argv[2:], os.environ['OMP_NUM_THREADS'],
            os.environ['WHO'], os.environ['HF_HUB_OFFLINE'], str(os.getsid(0) == os.getpid())]))
        print({FINISH!r}, flush=True)
    """
    await heard(trainer(tmp_path, program), plan, Path("/w/checkpoints/step-2"))
    assert TrainingPlan.from_json((tmp_path / "plan").read_text()) == plan
    told = (tmp_path / "told").read_text().split("|")
    assert told == [
        *("--nice", "4", "--parent", str(os.getpid()), "--resume", "/w/checkpoints/step-2"),
        *("3", "me", "1", "True"),
    ]


@pytest.mark.parametrize(
    ("code", "error", "param"),
    [
        ("invalid_training_file", InvalidInput, "training_file"),
        ("too_few_usable_pairs", InvalidInput, "judge_model"),
        ("loss_not_finite", InvalidInput, None),
        ("training_failed", Internal, None),
    ],
)
async def test_a_failure_is_told_for_whose_it_is(
    tmp_path: Path, plan: TrainingPlan, code: str, error: type[BrainError], param: str | None
) -> None:
    line = f'{{"type":"failed","code":"{code}","message":"Row 3 is no row."}}'
    program = f"print({line!r}, flush=True); print('the reason', file=sys.stderr); sys.exit(1)"
    messages, end = await heard(trainer(tmp_path, program), plan)
    assert [encode(it) for it in messages] == [line]
    assert isinstance(end, error)
    assert end.param == param
    assert str(end) == "Row 3 is no row."
    assert "the reason" in (end.private or "")


async def test_a_child_that_was_killed_may_be_tried_again(tmp_path: Path, plan: TrainingPlan) -> None:
    program = f"print({START!r}, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    messages, end = await heard(trainer(tmp_path, program), plan)
    assert len(messages) == 1
    assert isinstance(end, Unavailable)
    assert "SIGKILL" in str(end)


@pytest.mark.parametrize("program", ["sys.exit(3)", "pass", "print('what', flush=True)", f"print({START!r})"])
async def test_a_child_that_ends_without_a_result_is_our_fault(
    tmp_path: Path, plan: TrainingPlan, program: str
) -> None:
    _, end = await heard(trainer(tmp_path, program), plan)
    assert isinstance(end, Internal)


async def test_what_the_child_says_of_its_death_is_kept_for_the_log(tmp_path: Path, plan: TrainingPlan) -> None:
    _, end = await heard(trainer(tmp_path, "sys.stderr.write('x' * 100_000 + 'the last words'); sys.exit(3)"), plan)
    assert isinstance(end, Internal)
    assert (end.private or "").endswith("the last words")
    assert len(end.private or "") < 10_000


async def test_a_wish_to_pause_reaches_the_child(tmp_path: Path, plan: TrainingPlan) -> None:
    paused = encode(Paused(step=2, folder=Path("/w/step-2")))
    program = f"""
        def stop(*_):
            os.write(1, ({paused!r} + chr(10)).encode())
            os._exit(75)
        signal.signal(signal.SIGTERM, stop)
        print({START!r}, flush=True)
        time.sleep(60)
    """
    pause = asyncio.Event()

    async def hear(message: Message) -> None:
        pause.set()

    end = await trainer(tmp_path, program).train(plan, resume_from=None, on_message=hear, pause=pause)
    assert end == Paused(step=2, folder=Path("/w/step-2"))


async def test_who_cancels_ends_the_child_however_stubborn(tmp_path: Path, plan: TrainingPlan) -> None:
    program = f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()))
        print({START!r}, flush=True)
        time.sleep(60)
    """
    begun = asyncio.Event()

    async def hear(message: Message) -> None:
        begun.set()

    trains = trainer(tmp_path, program, grace_s=0.05)
    task = asyncio.create_task(trains.train(plan, resume_from=None, on_message=hear, pause=asyncio.Event()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_listener_that_fails_ends_the_child(tmp_path: Path, plan: TrainingPlan) -> None:
    program = f"""
        open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()))
        print({START!r}, flush=True)
        time.sleep(60)
    """

    async def hear(message: Message) -> None:
        raise Unavailable("The database is away.")

    with pytest.raises(Unavailable, match="database"):
        await trainer(tmp_path, program).train(plan, resume_from=None, on_message=hear, pause=asyncio.Event())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIG_DFL)


async def test_the_newest_checkpoint_is_found(tmp_path: Path, plan: TrainingPlan) -> None:
    trains = trainer(tmp_path, "pass")
    assert trains.newest_checkpoint(plan) is None
    for name in ("step-2", "step-10", ".unfinished-step-12"):
        (plan.checkpoints / name).mkdir(parents=True)
    assert trains.newest_checkpoint(plan) == plan.checkpoint(10)
