"""Training a chain again without what went."""

import json
from dataclasses import replace

import pytest

from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.finetuning.domain.adapters import AdapterSource, Withdrawal
from services.finetuning.domain.jobs import JobStatus, TuningJob
from services.finetuning.domain.owners import Owner
from services.finetuning.domain.spec import TrainingSpec
from services.finetuning.domain.training import Stage
from services.finetuning.usecases.jobs import Jobs
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.retraining import REPEATS, Retrain
from tests.unit.services.finetuning.bench import Nobody
from tests.unit.services.finetuning.conftest import BASE, EVE, MARA, Room
from tests.unit.services.finetuning.memory import MemoryFiles

FIRST, SECOND = "ftjob-first", "ftjob-second"


def rows(*documents: str) -> bytes:
    return b"".join(
        json.dumps(
            {
                "messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "Yes."}],
                "brain": {"sources": [{"document": document, "version": 1}]},
            }
        ).encode()
        + b"\n"
        for n, document in enumerate(documents)
    )


class Chain:
    """A supervised adapter and one that was tuned on from it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.files = MemoryFiles()
        jobs = Jobs(
            ledger=room.ledger,
            files=self.files,
            base_model=BASE,
            audience=(),
            devices=1,
            metrics=room.metrics,
            now=room.now,
        )
        self.retrain = Retrain(
            ledger=room.ledger,
            jobs=jobs,
            files=self.files,
            read_rows=ReadRows(files=self.files),
            delegation=Nobody(),
            now=room.now,
        )

    async def made(self, job_id: str, name: str, data: bytes, *, parent: str = "", documents: tuple[str, ...]) -> None:
        spec = TrainingSpec(Stage.SUPERVISED)
        job = TuningJob(
            job_id, "acme", Owner.of(MARA), JobStatus.SUCCEEDED, parent or BASE, BASE, parent, spec,
            self.files.put(data), "", "hr", 1, {"team": "hr"}, "", "", ("group:everyone",), 1.0, fine_tuned_model=name,
        )  # fmt: skip
        async with self.room.ledger.change() as change:
            await change.put_job(job)
        sources = [AdapterSource("document", one, 1, 1) for one in documents]
        await self.room.publish(name, job_id=job_id, sources=sources)

    async def gone(self, document: str) -> None:
        async with self.room.ledger.change() as change:
            await change.put_withdrawal("acme", Withdrawal(document, deleted=True), 1.0)

    def kept(self, file_id: str) -> list[str]:
        lines = self.files.kept[file_id][1].splitlines()
        return [json.loads(line)["brain"]["sources"][0]["document"] for line in lines]

    async def jobs(self, ids: tuple[str, ...]) -> list[TuningJob]:
        return [job for one in ids if (job := await self.room.ledger.job("acme", one)) is not None]


@pytest.fixture
async def chain(room: Room) -> Chain:
    made = Chain(room)
    await made.made(FIRST, "ft:first", rows("doc_1", "doc_2"), documents=("doc_1", "doc_2"))
    await made.made(
        SECOND, "ft:second", rows("doc_3", "doc_4"), parent="ft:first", documents=("doc_1", "doc_2", "doc_3", "doc_4")
    )
    return made


async def test_what_the_first_stage_saw_repeats_the_whole_chain(chain: Chain) -> None:
    await chain.gone("doc_1")
    done = await chain.retrain(MARA, "ft:second")
    first, second = await chain.jobs(done.job_ids)
    assert done.rows_left_out == 1
    assert chain.kept(first.training_file) == ["doc_2"]
    assert chain.kept(second.training_file) == ["doc_3", "doc_4"]
    assert (first.waits_for, second.waits_for, second.parent_job) == ("", first.job_id, first.job_id)
    assert (first.metadata, second.metadata) == ({"team": "hr", REPEATS: FIRST}, {"team": "hr", REPEATS: SECOND})
    assert (second.retrains, second.seed) == ("ft:second", 1)


async def test_what_was_tuned_on_from_a_checkpoint_is_repeated_with_the_stage_that_made_it(chain: Chain) -> None:
    saw = [AdapterSource("document", one, 1, 1) for one in ("doc_1", "doc_2")]
    await chain.room.publish("ft:first:ckpt-step-2", job_id=FIRST, step=2, sources=saw)
    await chain.made(
        "ftjob-third", "ft:third", rows("doc_5"), parent="ft:first:ckpt-step-2", documents=("doc_1", "doc_2", "doc_5")
    )
    await chain.gone("doc_1")
    first, third = await chain.jobs((await chain.retrain(MARA, "ft:third")).job_ids)
    assert chain.kept(first.training_file) == ["doc_2"]
    assert (third.waits_for, third.parent_job, third.parent) == (first.job_id, first.job_id, "")


async def test_stages_before_the_first_that_is_touched_are_not_repeated(chain: Chain) -> None:
    await chain.gone("doc_3")
    done = await chain.retrain(MARA, "ft:second")
    (again,) = await chain.jobs(done.job_ids)
    assert chain.kept(again.training_file) == ["doc_4"]
    assert (again.waits_for, again.parent) == ("", "ft:first")


async def test_a_reward_model_is_part_of_the_chain(chain: Chain) -> None:
    reward = replace(
        (await chain.jobs((FIRST,)))[0],
        job_id="ftjob-reward",
        wanted=TrainingSpec(Stage.REWARD_MODEL),
        training_file=chain.files.put(
            b"".join(
                json.dumps(
                    {
                        "input": {"messages": [{"role": "user", "content": f"{n}?"}]},
                        "preferred_output": [{"role": "assistant", "content": "Yes."}],
                        "non_preferred_output": [{"role": "assistant", "content": "No."}],
                        "brain": {"sources": [{"document": f"doc_{n}", "version": 1}]},
                    }
                ).encode()
                + b"\n"
                for n in (8, 9)
            )
        ),
        fine_tuned_model="",
        parent="",
    )
    tuned = replace(
        (await chain.jobs((FIRST,)))[0],
        job_id="ftjob-rl",
        wanted=TrainingSpec(Stage.RLHF, reward_model="ftjob-reward"),
        training_file=chain.files.put(json.dumps({"messages": [{"role": "user", "content": "?"}]}).encode()),
        fine_tuned_model="ft:rl",
        parent="ft:first",
    )
    async with chain.room.ledger.change() as change:
        await change.put_job(reward)
        await change.put_job(tuned)
    await chain.room.publish("ft:rl", job_id="ftjob-rl", sources=[AdapterSource("document", "doc_9", 1, 1)])
    await chain.gone("doc_9")
    first, second = await chain.jobs((await chain.retrain(MARA, "ft:rl")).job_ids)
    assert chain.kept(first.training_file) == ["doc_8"]
    assert (second.wanted.reward_model, second.waits_for, second.parent) == (first.job_id, first.job_id, "ft:first")


async def test_a_stage_without_rows_is_refused_and_nothing_is_begun(chain: Chain) -> None:
    await chain.gone("doc_3")
    await chain.gone("doc_4")
    with pytest.raises(InvalidInput) as caught:
        await chain.retrain(MARA, "ft:second")
    assert SECOND in caught.value.message


async def test_without_anything_withdrawn_there_is_nothing_to_repeat(chain: Chain) -> None:
    with pytest.raises(Conflict):
        await chain.retrain(MARA, "ft:second")
    with pytest.raises(NotFound):
        await chain.retrain(EVE, "ft:second")
