"""The check before training, from files to the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import InvalidInput, NotFound
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.domain.adapter_shape import AdapterShape, EngineLimits
from services.finetuning.domain.report import Finding, Report, Severity
from services.finetuning.usecases.checking import CheckRequest, CheckRows
from services.finetuning.usecases.reading import ReadRows
from services.layout.texts import read_layout
from tests.unit.services.finetuning.memory import MemoryFiles
from tests.unit.services.finetuning.small_model import STRICT, write_model

LIMITS = EngineLimits(max_rank=64, modules=("q_proj", "v_proj"))


class Checking:
    def __init__(self, tokens: FolderTokens) -> None:
        self.files = MemoryFiles()
        self.tokens = tokens
        self.check = CheckRows(read_rows=ReadRows(files=self.files), texts=read_layout())

    async def __call__(self, rows: Sequence[Any], stage: str = "supervised", **more: Any) -> Report:
        training = self.files.put(lines(rows))
        return (await self.check(CheckRequest(stage, training, **more), self.tokens)).report


@pytest.fixture
def checking(tokens: FolderTokens) -> Checking:
    return Checking(tokens)


def lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    weight = {"weight": more.pop("weight")} if "weight" in more else {}
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **weight}],
        **more,
    }


def pair(question: str, better: str, worse: str, **more: Any) -> dict[str, Any]:
    said = [[{"role": "assistant", "content": text}] for text in (better, worse)]
    asked = {"messages": [{"role": "user", "content": question}]}
    return {"input": asked, "preferred_output": said[0], "non_preferred_output": said[1], **more}


NAMES = ["Osprey", "Heron", "Lantern", "Rill", "Canopy", "Tern", "Bittern", "Crane", "Egret", "Finch"]


def sound(count: int = 60) -> list[dict[str, Any]]:
    return [
        chat(
            f"Who is in charge of {NAMES[at % 10]} in {NAMES[at // 10]} number {at * 7919}?",
            f"{NAMES[-at % 10]} {at} is.",
        )
        for at in range(count)
    ]


def codes(report: Report) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in report.findings}


def the(report: Report, code: str) -> Finding:
    return next(finding for finding in report.findings if finding.code == code)


async def test_sound_rows_can_be_trained_on(checking: Checking, tokens: FolderTokens) -> None:
    report = await checking(sound())
    assert report.trainable
    assert codes(report) == {}
    assert report.template_hash == tokens.template_hash != ""
    numbers = report.numbers
    assert numbers["rows"] == 60
    assert 0 < numbers["learnt_tokens"] < numbers["tokens"]
    assert numbers["masked_share"] == pytest.approx(1 - numbers["learnt_tokens"] / numbers["tokens"], abs=1e-6)
    assert numbers["truncated_tokens"] == numbers["rows_without_labels"] == 0


async def test_the_report_travels_as_json(checking: Checking) -> None:
    report = (await checking([chat("Q?", "A.")])).with_section("estimate", {"seconds": 3.5})
    found = json.loads(report.to_json())
    assert found["trainable"] is True
    assert found["estimate"] == {"seconds": 3.5}
    assert found["findings"] == [
        {
            "code": "few_rows",
            "severity": "warning",
            "message": "1 rows are few for supervised; from 50 on its result begins to mean something.",
            "lines": [],
            "numbers": {"rows": 1, "recommended": 50},
        }
    ]


async def test_faults_of_both_files_are_errors_with_lines(checking: Checking) -> None:
    validation = checking.files.put(b'{"messages": 5}\n')
    rows = [*sound(), {"messages": []}, {"text": "a"}]
    report = await checking(rows, validation_file=validation)
    assert not report.trainable
    assert [(one.code, one.lines) for one in report.findings] == [
        ("row_empty", (61,)),
        ("row_missing", (62,)),
        ("validation_row_wrong_type", (1,)),
    ]
    assert the(report, "row_missing").message == "line 62, messages: is missing; it must be an array of turns."
    assert report.first_error == report.findings[0]
    many = await checking([{"messages": []}] * 80)
    assert many.numbers["faults"] == 80
    assert the(many, "row_more").message == "30 further faults are not listed."


@pytest.mark.parametrize(("unlearnt", "severity"), [(1, Severity.WARNING), (2, Severity.ERROR)])
async def test_rows_from_which_nothing_is_learnt_are_counted(
    checking: Checking, unlearnt: int, severity: Severity
) -> None:
    rows = [*sound(100 - unlearnt), *(chat(f"Q{at}?", f"Said by {at}.", weight=0) for at in range(unlearnt))]
    finding = the(await checking(rows), "no_labels")
    assert finding.severity is severity
    assert finding.lines == tuple(range(101 - unlearnt, 101))
    assert finding.numbers["share"] == unlearnt / 100


async def test_what_a_limit_cuts_off_is_measured(checking: Checking) -> None:
    rows = [*sound(59), chat("Q?", "word " * 40)]
    report = await checking(rows, max_length=150)
    assert the(report, "truncated").severity is Severity.WARNING
    assert the(report, "truncated").lines == (60,)
    assert the(report, "open_ended").lines == (60,)
    assert report.trainable
    report = await checking(sound(), max_length=45)
    assert not report.trainable
    assert {"truncated", "no_labels", "no_end_of_turn"} <= set(codes(report))
    assert report.numbers["truncated_share"] > 0.2


async def test_a_template_that_refuses_or_differs_is_an_error(tmp_path: Path, checking: Checking) -> None:
    strict = Checking(FolderTokens(write_model(tmp_path / "strict", STRICT, end="</s>")))
    rows = [*sound(59), {"messages": [{"role": "system", "content": "S"}, *chat("Q?", "A.")["messages"]]}]
    finding = the(await strict(rows), "template_refused")
    assert finding.lines == (60,)
    assert "System turns are not supported" in finding.message
    assert "template_differs" in codes(await checking(sound(), served_template_hash="0" * 64))
    bare = Checking(FolderTokens(write_model(tmp_path / "bare", "")))
    assert codes(await bare(sound()))["no_template"] is Severity.ERROR
    text = await bare(
        [{"text": f"The pond number {at} opens in May {at * 31}."} for at in range(30)], "continued_pretraining"
    )
    assert text.trainable
    assert text.numbers["masked_share"] == 0


async def test_special_tokens_of_the_model_are_not_said(checking: Checking) -> None:
    finding = the(await checking([*sound(59), chat("Q?", "A.</s>B.")]), "special_token")
    assert (finding.severity, finding.lines) == (Severity.ERROR, (60,))


async def test_repeated_rows_are_told_from_similar_ones(checking: Checking) -> None:
    long = (
        "The reading room of the library opens at half past nine and closes at six, except on {}, when it stays closed."
    )
    rows = [
        *sound(57),
        chat("When?", long.format("Monday")),
        chat("when", long.format("MONDAY")),
        chat("When?", long.format("Tuesday")),
    ]
    report = await checking(rows)
    assert the(report, "exact_duplicates").lines == (59,)
    assert the(report, "near_duplicates").lines == (58, 59, 60)
    assert report.trainable


async def test_what_grades_is_not_trained_on(checking: Checking) -> None:
    rows = sound()
    asked = rows[4]["messages"][0]["content"]
    report = await checking(rows, evaluation_questions=(asked.upper(), "Who feeds the cat?"))
    assert (the(report, "evaluation_overlap").severity, the(report, "evaluation_overlap").lines) == (
        Severity.ERROR,
        (5,),
    )
    report = await checking(rows, evaluation_questions=(asked + " Please",))
    assert the(report, "evaluation_near").lines == (5,)
    assert report.trainable
    validation = checking.files.put(lines([rows[7]]))
    assert the(await checking(rows, validation_file=validation), "validation_overlap").lines == (8,)


async def test_a_rater_is_on_one_side_only(checking: Checking) -> None:
    rows = [pair(f"Q{at * 7919}?", f"Better {at}", f"Worse {at}", brain={"rater": f"user:{at % 4}"}) for at in range(8)]
    validation = checking.files.put(lines([pair("X?", "Y", "Z", brain={"rater": "user:3"})]))
    finding = the(await checking(rows, "dpo", validation_file=validation), "rater_overlap")
    assert (finding.severity, finding.lines) == (Severity.ERROR, (4, 8))


async def test_personal_data_is_counted_and_never_shown(checking: Checking) -> None:
    secret = "gwen@alder-valley.example"
    rows = [
        *sound(58),
        chat("Mail?", f"Write to {secret}."),
        chat("Mail?", f"{secret} or a@b.io, DE89370400440532013000."),
    ]
    report = await checking(rows)
    assert the(report, "personal_data_email").numbers == {"rows": 2, "found": 3}
    assert the(report, "personal_data_iban").lines == (60,)
    assert secret not in report.to_json()
    assert "DE89" not in report.to_json()


async def test_contradictions_are_found_in_every_kind_of_row(checking: Checking) -> None:
    rows = [
        *sound(57), chat("When does it open?", "At 9."), chat("when does it open", "At 10."), chat("When does it open?", "at 9"),
    ]  # fmt: skip
    assert the(await checking(rows), "contradiction").lines == (58, 59, 60)
    same = [*sound(58), chat("How long?", "It takes 3 days."), chat("How long?", "3 days.")]
    assert "contradiction" not in codes(await checking(same))
    pairs = [pair("Q?", "A", "B"), pair("Q?", "B", "A"), pair("Q?", "A", "C")]
    assert the(await checking(pairs, "dpo"), "contradiction").lines == (1, 2)
    judged = [chat("Q?", "A", label=True), chat("Q?", "A", label=False), chat("Q?", "B", label=False)]
    assert the(await checking(judged, "kto"), "contradiction").lines == (1, 2)


async def test_judged_answers_of_one_kind_teach_nothing(checking: Checking) -> None:
    rows = [row | {"label": True} for row in sound(20)]
    assert codes(await checking(rows, "kto"))["one_class"] is Severity.ERROR
    rows[3]["label"] = False
    finding = the(await checking(rows, "kto"), "lopsided_classes")
    assert (finding.severity, finding.numbers) == (Severity.WARNING, {"good": 19, "bad": 1})
    for at in range(10):
        rows[at]["label"] = False
    assert "lopsided_classes" not in codes(await checking(rows, "kto"))


async def test_of_judged_conversations_only_the_judged_answer_counts(checking: Checking) -> None:
    before = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "word " * 30}]
    one, other = chat("Q?", "A.", label=True), chat("Q?", "A.", label=False)
    long = one | {"messages": [*before, *one["messages"]]}
    short = await checking([one, other], "kto")
    report = await checking([long, other], "kto")
    assert report.numbers["learnt_tokens"] == short.numbers["learnt_tokens"]
    assert report.numbers["tokens"] > short.numbers["tokens"]


async def test_prompts_need_nothing_to_learn(checking: Checking) -> None:
    rows = [{"messages": row["messages"][:1], "answer": str(at)} for at, row in enumerate(sound(64))]
    report = await checking(rows, "rlhf")
    assert report.trainable
    assert codes(report) == {}
    assert "learnt_tokens" not in report.numbers


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (AdapterShape(128), "rank_too_high"),
        (AdapterShape(0), "rank_too_high"),
        (AdapterShape(8, ("q_proj", "lm_head")), "unknown_target_modules"),
        (AdapterShape(8, use_dora=True), "dora"),
        (AdapterShape(8, init="pissa_niter_4"), "changed_base"),
        (AdapterShape(8, modules_to_save=("score",)), "modules_to_save"),
        (AdapterShape(8, new_tokens=2), "vocabulary_changed"),
    ],
)
async def test_an_adapter_that_the_engine_would_refuse_is_an_error(
    checking: Checking, shape: AdapterShape, code: str
) -> None:
    report = await checking(sound(), shape=shape, limits=LIMITS)
    assert codes(report) == {code: Severity.ERROR}


async def test_an_adapter_that_the_engine_serves_is_none_and_a_reward_model_is_never_served(checking: Checking) -> None:
    assert (await checking(sound(), shape=AdapterShape(64, ("v_proj",), init="gaussian"), limits=LIMITS)).trainable
    pairs = [pair(f"Q{at * 7919}?", f"Better {at}", f"Worse {at}") for at in range(4)]
    shape = AdapterShape(512, modules_to_save=("score",))
    assert (await checking(pairs, "reward_model", shape=shape, limits=LIMITS)).trainable


async def test_a_file_must_be_there_and_for_this_purpose(checking: Checking) -> None:
    other = checking.files.put(b"{}", purpose="assistants")
    request = CheckRequest("supervised", other)
    with pytest.raises(InvalidInput, match="training_file: 'file-1' was stored for 'assistants'"):
        await checking.check(request, checking.tokens)
    with pytest.raises(NotFound):
        await checking.check(CheckRequest("supervised", "file-9"), checking.tokens)
    good = checking.files.put(lines(sound(1)))
    with pytest.raises(InvalidInput) as caught:
        await checking.check(CheckRequest("supervised", good, validation_file=other), checking.tokens)
    assert caught.value.param == "validation_file"
