"""Training and asking as an application does, and differences between answers, for the benchmarks of tuning."""

import json
import random
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks._asking import at_once
from benchmarks._result import CORES
from client.gateway import Gateway
from client.tuning import Tuning
from client.tuning_rendering import Watch, finish

__all__ = ["ENDS", "EVERY_CORE", "Paired", "answers", "build", "holds", "paired", "train", "upload", "watched"]

# Nobody asks while a benchmark trains.
EVERY_CORE: Final = {"BRAIN_FINETUNING_TRAINER_THREADS": str(CORES)}
_RESAMPLES: Final = 10_000
ENDS: Final = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class Paired:
    """A mean difference with its 95 % interval, from a bootstrap over clusters (documents) and seeds."""

    difference: float
    low: float
    high: float


def upload(gateway: Gateway, rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Keep rows as a training file; return its id."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(gateway.upload_file(path, purpose="fine-tune")["id"])


def build(tuning: Tuning, body: Mapping[str, Any]) -> dict[str, Any]:
    """Build a dataset and return it when it is ready.

    Raises:
        SystemExit: It could not be built.
    """
    dataset = tuning.build(body)
    while dataset["status"] == "building":
        time.sleep(1)
        dataset = tuning.dataset(dataset["id"])
    if dataset["status"] != "ready":
        raise SystemExit(f"{body['name']}: {dataset['error']}")
    return dataset


def train(tuning: Tuning, body: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Train with live loss and return the job.

    Raises:
        SystemExit: It did not succeed.
    """
    return watched(tuning, tuning.create(body), console)


def watched(tuning: Tuning, job: dict[str, Any], console: Console) -> dict[str, Any]:
    """Show a job until it ends and return it.

    Raises:
        SystemExit: It did not succeed.
    """
    watch = Watch(console)
    with watch.bar:
        while job["status"] not in ENDS:
            watch.see(job)
            time.sleep(2)
            job = tuning.job(job["id"])
        watch.see(job)
    finish(console, job)
    if job["status"] != "succeeded":
        raise SystemExit(f"{job['id']}: {job['error']}")
    return job


def answers(
    gateway: Gateway, model: str, prompts: Sequence[Sequence[Mapping[str, str]]], *, max_tokens: int = 64
) -> list[str]:
    """Return a model's greedy answers to conversations as they stand, without any collection.

    Args:
        gateway: Of whoever asks.
        model: Who answers.
        prompts: Conversations.
        max_tokens: Where an answer is cut off: a base model goes on and on.
    """

    def ask(messages: Sequence[Mapping[str, str]]) -> str:
        body = {"model": model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        answer = gateway.send("POST", "/v1/chat/completions", body=body)
        return str(answer["choices"][0]["message"]["content"])

    return at_once(ask, prompts)


def holds(answer: str, wanted: str) -> bool:
    """Return whether an answer holds what it should, whatever its case and spacing; numbers as whole words."""
    plain = " ".join(answer.casefold().split())
    return re.search(rf"(?<![\w.,]){re.escape(' '.join(wanted.casefold().split()))}(?![\w])", plain) is not None


def paired(differences: Sequence[Sequence[float]], clusters: Sequence[str], *, seed: int = 0) -> Paired:
    """Return the mean difference over questions and seeds.

    Args:
        differences: For each seed, the difference of each question.
        clusters: The document of each question: questions of one document are drawn together.
        seed: Of the resampling.
    """
    drawn = random.Random(seed)
    members: dict[str, list[int]] = {}
    for place, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(place)
    names = sorted(members)
    means = []
    for _ in range(_RESAMPLES):
        arms = drawn.choices(range(len(differences)), k=len(differences))
        places = [place for name in drawn.choices(names, k=len(names)) for place in members[name]]
        means.append(sum(differences[arm][place] for arm in arms for place in places) / (len(arms) * len(places)))
    means.sort()
    mean = sum(map(sum, differences)) / (len(differences) * len(clusters))
    return Paired(mean, means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)])
