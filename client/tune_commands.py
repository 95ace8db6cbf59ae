"""`brain tune …`: training jobs, checked, created, watched and steered."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from client.errors import UnreachableError, UsageError
from client.place import AsJson, open_gateway, print_json
from client.tuning import FINAL, Tuning, settings
from client.tuning_rendering import Watch, facts, finish, notes, show_jobs, show_report, show_table

__all__ = ["tune"]

tune = typer.Typer(no_args_is_help=True, help="Train adapters: check, create, watch and steer jobs.")

# A person sees no more, and the gateway is asked no more often.
_LOOK_EVERY_S = 1.0
# A job takes hours: who watches it sits out a restart of the gateway.
_PATIENCE_S = 60.0

Training = Annotated[str, typer.Argument(help="Rows to train on: a file of this machine (JSON lines), or a file's id.")]
FromDataset = Annotated[
    str, typer.Option("--dataset", help="Train on this dataset's rows, validate on those held out.")
]
Validation = Annotated[str, typer.Option(help="Rows to validate on: a file, or a file's id.")]
Model = Annotated[str, typer.Option(help="Base model, alias or adapter to start from.")]
Stage = Annotated[
    str,
    typer.Option(help="continued_pretraining, supervised, raft, dpo, kto, reward_model, rlhf or rlaif."),
]
Epochs = Annotated[int | None, typer.Option(help="Times that all rows are seen.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows in one step.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate-multiplier", help="Factor on the stage's own learning rate.")
]
Beta = Annotated[float | None, typer.Option(help="Strength of the tie to the reference (dpo, kto, rlhf).")]
Rank = Annotated[int | None, typer.Option(help="Rank of the adapter.")]
MaxSteps = Annotated[int | None, typer.Option(help="Most steps.")]
Suffix = Annotated[str, typer.Option(help="Last part of the adapter's name.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any other setting, NAME=VALUE: lora.dropout=0.1, constitution=@rules.txt, budget_s=600."
    ),
]
Notes = Annotated[list[str] | None, typer.Option("--note", help="Note on the job, KEY=VALUE.")]


def _body(
    tuning: Tuning,
    *,
    training: str,
    dataset: str,
    validation: str,
    given: list[str] | None,
    note: list[str] | None,
    values: dict[str, Any],
    ours: dict[str, Any],
) -> dict[str, Any]:
    """Return the body of a job; files of this machine are uploaded.

    Raises:
        UsageError: Rows are given twice, or not at all.
    """
    if bool(training) == bool(dataset):
        raise UsageError("Give the rows to train on: a file, or --dataset.")
    rank = ours.pop("rank")
    made = settings(given or [], ours | ({"lora": {"r": rank}} if rank is not None else {}))
    rows, held_out = tuning.files_of(dataset) if dataset else (tuning.training_file(training), "")
    body = {
        "training_file": rows,
        "validation_file": tuning.training_file(validation) if validation else held_out,
        "metadata": notes(note or []),
        "brain": made,
        **values,
    }
    return {name: value for name, value in body.items() if value not in (None, "", {})}


@tune.command()
def check(
    context: typer.Context,
    training: Training = "",
    dataset: FromDataset = "",
    validation: Validation = "",
    model: Model = "default",
    stage: Stage = "",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    beta: Beta = None,
    rank: Rank = None,
    max_steps: MaxSteps = None,
    seed: Seed = None,
    given: Settings = None,
    *,
    dry_run: Annotated[bool, typer.Option(help="Train a few steps, to say how long it would take.")] = True,
    as_json: AsJson = False,
) -> None:
    """Say whether a job could be trained and what it would take; exit status 1 when it could not."""
    with open_gateway(context) as gateway:
        tuning = Tuning(gateway)
        body = _body(
            tuning,
            training=training,
            dataset=dataset,
            validation=validation,
            given=given,
            note=None,
            values={"model": model, "seed": seed},
            ours={
                "stage": stage,
                "n_epochs": epochs,
                "batch_size": batch_size,
                "learning_rate_multiplier": learning_rate,
                "beta": beta,
                "rank": rank,
                "max_steps": max_steps,
            },
        )
        found = tuning.check(body | ({} if dry_run else {"skip_dry_run": True}))
    if as_json:
        print_json(found)
    else:
        show_report(Console(), found["report"])
    raise typer.Exit(0 if found["trainable"] else 1)


@tune.command()
def create(
    context: typer.Context,
    training: Training = "",
    dataset: FromDataset = "",
    validation: Validation = "",
    model: Model = "default",
    stage: Stage = "",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    beta: Beta = None,
    rank: Rank = None,
    max_steps: MaxSteps = None,
    suffix: Suffix = "",
    seed: Seed = None,
    given: Settings = None,
    note: Notes = None,
    *,
    follow: Annotated[bool, typer.Option("--watch", help="Stay and watch it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a training job."""
    with open_gateway(context) as gateway:
        tuning = Tuning(gateway)
        body = _body(
            tuning,
            training=training,
            dataset=dataset,
            validation=validation,
            given=given,
            note=note,
            values={"model": model, "suffix": suffix, "seed": seed},
            ours={
                "stage": stage,
                "n_epochs": epochs,
                "batch_size": batch_size,
                "learning_rate_multiplier": learning_rate,
                "beta": beta,
                "rank": rank,
                "max_steps": max_steps,
            },
        )
        job = tuning.create(body)
        if follow:
            job = _watched(tuning, job["id"], Console(stderr=as_json))
    _tell(job, as_json=as_json)
    raise typer.Exit(_status(job) if follow else 0)


@tune.command("list")
def list_jobs(
    context: typer.Context,
    note: Notes = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs shown.")] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List training jobs, newest first."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).jobs(notes=notes(note or []), most=limit)
    if as_json:
        print_json(found)
    else:
        show_jobs(Console(), found)


@tune.command()
def show(context: typer.Context, job_id: str, *, as_json: AsJson = False) -> None:
    """Show a job with its settings, its pre-flight and its checkpoints."""
    with open_gateway(context) as gateway:
        tuning = Tuning(gateway)
        job = tuning.job(job_id)
        checkpoints = tuning.checkpoints(job_id)
    if as_json:
        print_json(job | {"checkpoints": checkpoints})
        return
    console = Console()
    ours = job["brain"]
    names = ("status", "model", "fine_tuned_model", "training_file", "validation_file", "result_files", "seed")
    facts(
        console,
        job["id"],
        {name: job[name] for name in (*names, "error", "metadata")}
        | {"settings": ours["spec"], "trained_tokens": ours["trained_tokens"], "metrics": ours["metrics"]},
    )
    if ours["report"]:
        show_report(console, ours["report"])
    if checkpoints:
        rows = ((one["id"], str(one["step_number"]), one["fine_tuned_model_checkpoint"]) for one in checkpoints)
        show_table(console, ("checkpoint", "step", "model"), rows)


@tune.command()
def watch(context: typer.Context, job_id: str, *, as_json: AsJson = False) -> None:
    """Watch a job until it ends or is paused; exit status 0 when it succeeded."""
    with open_gateway(context) as gateway:
        job = _watched(Tuning(gateway), job_id, Console(stderr=as_json))
    _tell(job, as_json=as_json)
    raise typer.Exit(_status(job))


def _watched(tuning: Tuning, job_id: str, console: Console) -> dict[str, Any]:
    """Draw a job until it ends or stands still; return it."""
    watch = Watch(console)
    answered_at = time.monotonic()
    with watch.bar:
        while True:
            try:
                job = tuning.job(job_id)
            except UnreachableError:
                if time.monotonic() - answered_at > _PATIENCE_S:
                    raise
            else:
                answered_at = time.monotonic()
                watch.see(job)
                if job["status"] in FINAL or job["status"] == "paused":
                    return job
            time.sleep(_LOOK_EVERY_S)


def _status(job: dict[str, Any]) -> int:
    return 0 if job["status"] == "succeeded" else 1


def _tell(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    elif job["status"] in FINAL or job["status"] == "paused":
        finish(Console(), job)
    else:
        place = job["brain"]["queue_position"]
        behind = f", {place} before it" if place else ""
        Console().print(Text(f"{job['id']} {job['status'].replace('_', ' ')}{behind}; brain tune watch {job['id']}"))


@tune.command()
def cancel(context: typer.Context, job_id: str, *, as_json: AsJson = False) -> None:
    """End a job."""
    _moved(context, job_id, "cancel", as_json=as_json)


@tune.command()
def pause(context: typer.Context, job_id: str, *, as_json: AsJson = False) -> None:
    """Stop a job at its next checkpoint."""
    _moved(context, job_id, "pause", as_json=as_json)


@tune.command()
def resume(context: typer.Context, job_id: str, *, as_json: AsJson = False) -> None:
    """Go on from a job's last checkpoint."""
    _moved(context, job_id, "resume", as_json=as_json)


def _moved(context: typer.Context, job_id: str, verb: str, *, as_json: bool) -> None:
    with open_gateway(context) as gateway:
        job = Tuning(gateway).move(job_id, verb)
    _tell(job, as_json=as_json)


@tune.command()
def events(
    context: typer.Context,
    job_id: str,
    limit: Annotated[int, typer.Option(min=1, help="Most events shown.")] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Print what happened to a job, oldest first."""
    with open_gateway(context) as gateway:
        found = Tuning(gateway).events(job_id, most=limit)
    if as_json:
        print_json(found)
        return
    console = Console()
    styles = {"error": "red", "warn": "yellow"}
    for event in reversed(found):
        at = time.strftime("%H:%M:%S", time.localtime(event["created_at"]))
        console.print(Text.assemble((f"{at} ", "dim"), (event["message"], styles.get(event["level"], ""))))
