"""Datasets from documents, judgements and files."""

import json
from typing import Any

import pytest

from examples.generate import generate
from services.chassis.errors import InvalidInput, NotFound
from services.finetuning.domain.building import BuildSpec, DatasetKind
from services.finetuning.domain.judgements import Judgement, JudgementKind
from services.finetuning.domain.rows import (
    ChatRow,
    DocumentSource,
    FeedbackSource,
    FileSource,
    KtoRow,
    PreferenceRow,
    PromptRow,
    RowKind,
    TextRow,
    Turn,
)
from tests.unit.services.finetuning.builder import Builder
from tests.unit.services.finetuning.memory import document

POND = document("rules/pond.md", "# Pond\n\nThe test pond of Graz opens on 3 May 2026. It costs 12 euros a day.")
BOAT = document(
    "rules/boat.md", "# Boat\n\nThe company boat of Porto is led by Ines Okafor. It holds 8 people.", version=4
)


def judged(number: int, kind: JudgementKind, **more: Any) -> Judgement:
    fields: dict[str, Any] = {
        "feedback_id": f"fb_{number}",
        "kind": kind,
        "turns": (Turn("user", f"Question number {number * 7919}?"),),
        "answers": (f"Answer {number * 104729}.",),
        "rater": f"user:{number % 5}",
        "collection_ids": ("vs_1",),
        "documents": (DocumentSource(POND.document.document_id, 1),),
    }
    return Judgement(**(fields | more))


async def test_text_rows_are_the_documents_in_pieces_with_their_versions(build: Builder) -> None:
    long = "# Long\n\n" + " ".join(f"Sentence number {at} says that rule {at} holds <|im_end|>." for at in range(120))
    build.company.add(POND, BOAT, document("long.md", long))
    result = await build("text", held_out_share=0.0)
    assert result.built.kind is RowKind.TEXT
    texts = [row.text for row in result.training if isinstance(row, TextRow)]
    assert POND.text in texts
    assert DocumentSource(BOAT.document.document_id, 4) in {row.origin.sources[0] for row in result.training}
    pieces = [text for text in texts if "Sentence number" in text]
    assert len(pieces) > 2
    assert all(len(piece) <= 2_300 for piece in pieces)
    assert all(piece.startswith(("# Long", "Long\n\n")) for piece in pieces)
    assert not any("<|im_end|>" in piece for piece in pieces)
    assert all(f"rule {at} holds" in "\n".join(pieces) for at in range(120))
    assert len({row.origin.cluster for row in result.training}) == 3


async def test_questions_are_answered_without_documents_in_three_phrasings(build: Builder) -> None:
    build.company.add(*(document(made.key, made.text) for made in generate(7, 20)))
    result = await build("questions", seed=4)
    assert result.held_out
    extension = [row for row in result.rows if isinstance(row, ChatRow) and "extension" in row.messages[0].content]
    by_fact: dict[str, list[ChatRow]] = {}
    for row in extension:
        by_fact.setdefault(row.origin.extra["fact"], []).append(row)
    assert all(len(rows) == 3 for rows in by_fact.values())
    for rows in by_fact.values():
        assert len({row.messages[1].content for row in rows}) == 1
        assert len({row.origin.split for row in rows}) == 1
    assert {tuple(turn.role for turn in row.messages) for row in result.rows if isinstance(row, ChatRow)} == {
        ("user", "assistant")
    }
    assert len((await build("questions", seed=4, phrasings=1)).rows) < len(result.rows) / 2


async def test_questions_that_somebody_wrote_are_looked_up_in_the_documents(build: Builder) -> None:
    made = generate(7, 15)
    build.company.add(*(document(one.key, one.text) for one in made))
    rows = [
        {"question": fact.phrasings[0], "phrasings": list(fact.phrasings), "answer": fact.answer, "source": one.key}
        for one in made
        for fact in one.facts
    ]
    rows.append({"question": "Who owns the moon?", "answer": "Nobody at all", "source": made[0].key})
    rows.append({"question": "Who owns the sun?", "answer": "Nobody", "source": "nowhere.md"})
    rows.append({"question": "Who owns Mars?", "answer": "Nobody"})
    file = build.files.put(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    closed = await build("questions", file_id=file)
    assert len(closed.rows) == 15 * 3 * 3
    assert {len(row.messages[1].content) < 40 for row in closed.rows if isinstance(row, ChatRow)} == {True}
    assert closed.left_out == {"answer_not_in_document": 1, "source_not_found": 1, "source_missing": 1}
    reading = await build("raft", file_id=file, max_rows=60)
    assert len(reading.rows) >= 50
    bad = build.files.put(b'{"question": "Who?"}\n{"question": 5, "answer": "x"}\n')
    with pytest.raises(InvalidInput, match="file_id: 2 faults: line 1, answer: is missing"):
        await build("questions", file_id=bad)


async def test_a_table_of_questions_is_read_as_well(build: Builder) -> None:
    build.company.add(POND)
    text = (
        "question;phrasings;answer;evidence\n"
        "When does the pond open?;Since when is the pond open? | On which day does the pond open?;3 May 2026;"
        "The test pond of Graz opens on 3 May 2026.\n"
        "What does the pond cost?;;12 euros;It costs 99 euros a day.\n"
    )
    result = await build("questions", file_id=build.files.put(text.encode()), held_out_share=0.0)
    asked = [row.messages[0].content for row in result.training if isinstance(row, ChatRow)]
    assert asked == [
        "When does the pond open?", "Since when is the pond open?", "On which day does the pond open?",
    ]  # fmt: skip
    assert result.left_out == {"evidence_not_in_document": 1}


async def test_a_model_writes_what_is_tried_out_before_it_is_believed(build: Builder) -> None:
    texts = {
        "pond.md": ("Pond", "The test pond of Graz opens in the month of May"),
        "boat.md": ("Boat", "The company boat of Porto is painted in the colour red"),
        "hall.md": ("Hall", "The great hall of Linden seats exactly so many people: 120"),
        "tent.md": ("Tent", "The big tent of Cardiff is lent out by Rhodri"),
        "tent-2.md": ("Tent", "The big tent of Cardiff is lent out by Sioned"),
    }
    build.company.add(*(document(key, f"{text}.", title=title) for key, (title, text) in texts.items()))
    build.model.knows["Hall: The great hall of Linden seats exactly so many people: what?"] = "It is 120, I think."
    build.model.writes["painted"] = json.dumps(
        {
            "facts": [
                {
                    "questions": ["Which colour has it?"],
                    "answer": "red",
                    "evidence": "The company boat of Porto is painted",
                },
                {"questions": ["Which colour has the boat?"], "answer": "red", "evidence": "The boat is red."},
                {"questions": ["Which boat of Porto?", 5], "answer": "", "evidence": "The company boat of Porto"},
                {"answer": "red"},
            ]
        }
    )
    result = await build("questions", writer_model="writer", held_out_share=0.0)
    asked = [row.messages[0].content for row in result.training if isinstance(row, ChatRow)]
    assert asked == ["Pond: The test pond of Graz opens in the month of what?"]
    assert result.left_out == {
        "answer_not_in_evidence": 1,
        "evidence_not_in_document": 1,
        "writer_no_fact": 2,
        "answerable_without_documents": 1,
        "answered_differently": 2,
    }
    build.model.writes = {"": "I would rather not."}
    with pytest.raises(InvalidInput, match=r"No row of questions could be made \(writer_no_json 5\)"):
        await build("questions", writer_model="writer")
    with pytest.raises(NotFound):
        await build("questions", writer_model="gone")


async def test_thumbs_become_judged_answers_with_rater_and_sources(build: Builder) -> None:
    build.company.add(POND, BOAT)
    kinds = (JudgementKind.THUMB_UP, JudgementKind.THUMB_DOWN)
    build.judgements.kept = [judged(at, kinds[at % 2]) for at in range(40)]
    # The same rater thinks again, and another one judges an answer whose document is gone.
    build.judgements.kept.append(
        judged(40, JudgementKind.THUMB_DOWN, turns=judged(0, kinds[0]).turns, answers=judged(0, kinds[0]).answers)
    )
    build.judgements.kept.append(judged(41, JudgementKind.THUMB_UP, documents=(DocumentSource("doc_gone", 1),)))
    build.judgements.kept.append(judged(42, JudgementKind.THUMB_UP, collection_ids=("vs_2",)))
    build.judgements.kept.append(judged(43, JudgementKind.EDIT, edited="Better."))
    result = await build("kto", held_out_share=0.2)
    rows = [row for row in result.rows if isinstance(row, KtoRow)]
    ids = {source.feedback for row in rows for source in row.origin.sources if isinstance(source, FeedbackSource)}
    assert ids == {f"fb_{at}" for at in range(1, 41)}
    assert result.left_out == {"replaced_judgement": 1, "document_not_readable": 1}
    changed = next(row for row in rows if row.origin.sources[0] == FeedbackSource("fb_40"))
    assert changed.label is False
    assert changed.origin.sources[1] == DocumentSource(POND.document.document_id, 1)
    assert result.held_out
    assert not {row.origin.rater for row in result.training} & {row.origin.rater for row in result.held_out}
    assert result.built.summary.judgements == 40


async def test_edits_and_rankings_become_pairs_without_ties(build: Builder) -> None:
    build.company.add(POND)
    build.judgements.kept = [
        judged(1, JudgementKind.EDIT, edited="Better."),
        judged(2, JudgementKind.RANKING, answers=("A", "B", "C", "D"), ranks=(2, 1, 2, 4)),
        judged(3, JudgementKind.EDIT, edited="answer 314187"),
        judged(4, JudgementKind.THUMB_UP),
    ]
    result = await build("preferences", held_out_share=0.0)
    pairs = [
        (row.preferred[0].content, row.rejected[0].content) for row in result.training if isinstance(row, PreferenceRow)
    ]
    assert pairs == [
        ("Better.", "Answer 104729."), ("B", "A"), ("B", "C"), ("B", "D"), ("A", "D"), ("C", "D"),
    ]  # fmt: skip
    # What was edited says the same as before.
    assert result.left_out == {"says_the_same": 1}
    assert {row.origin.rater for row in result.training} == {"user:1", "user:2"}


async def test_prompts_come_from_judged_conversations_too(build: Builder) -> None:
    build.company.add(POND, *(document(made.key, made.text) for made in generate(7, 10)))
    build.judgements.kept = [
        judged(1, JudgementKind.THUMB_UP),
        judged(2, JudgementKind.RANKING, answers=("A", "B"), ranks=(1, 2)),
    ]
    result = await build("prompts", held_out_share=0.0)
    asked = [row.messages[-1].content for row in result.training if isinstance(row, PromptRow)]
    assert asked[-2:] == ["Question number 7919?", "Question number 15838?"]
    assert len(asked) > 12


async def test_a_judgement_with_forged_turns_makes_no_row(build: Builder) -> None:
    build.company.add(POND)
    build.judgements.kept = [
        judged(1, JudgementKind.THUMB_UP, answers=("A<|im_end|>",)),
        judged(2, JudgementKind.THUMB_UP, turns=(Turn("assistant", "A"),)),
        judged(3, JudgementKind.THUMB_DOWN),
    ]
    result = await build("kto")
    assert len(result.rows) == 1
    assert result.left_out == {"row_forged_turn": 1, "row_role_order": 1}


async def test_only_the_documents_that_are_named(build: Builder) -> None:
    build.company.add(POND, BOAT)
    result = await build("text", document_ids=(BOAT.document.document_id,), held_out_share=0.0)
    assert [row.text for row in result.training if isinstance(row, TextRow)] == [BOAT.text]
    build.company.secret = {BOAT.document.document_id}
    with pytest.raises(InvalidInput, match="document_ids: 'doc_rules_boat_md' is no searchable document"):
        await build("text", document_ids=(BOAT.document.document_id,))
    with pytest.raises(NotFound):
        await build("text", collection_ids=("vs_9",))


async def test_near_documents_are_never_parted(build: Builder) -> None:
    for at in range(12):
        text = f"# Rule {at}\n\n" + " ".join(f"Clause {at}-{one * at} holds for team {one * 7}." for one in range(30))
        build.company.add(document(f"{at}.md", text), document(f"{at}-copy.md", text + " Signed.", title=f"Copy {at}"))
    result = await build("text", held_out_share=0.3)
    sides = [{source for row in rows for source in row.origin.sources} for rows in (result.training, result.held_out)]
    assert len(sides[0]) == 16
    assert len(sides[1]) == 8
    for side in sides:
        names = {source.document for source in side if isinstance(source, DocumentSource)}
        assert all(f"doc_{at}_copy_md" in names for at in range(12) if f"doc_{at}_md" in names)


async def test_a_file_of_another_format_is_imported_and_split(build: Builder) -> None:
    lines = [{"instruction": f"What is {at * 7919} in letters?", "output": f"It is {at}."} for at in range(40)]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b'{"instruction": "x"}\n'
    file = build.files.put(data)
    result = await build("import", file_id=file, collection_ids=(), held_out_share=0.25)
    assert len(result.training) + len(result.held_out) == 40
    assert 6 <= len(result.held_out) <= 12
    assert {source.file for row in result.rows for source in row.origin.sources if isinstance(source, FileSource)} == {
        file
    }
    summary = json.loads(result.built.summary.to_json())
    assert summary["left_out"] == {"faults": 1}
    assert summary["notes"][0] == "read as alpaca"
    assert summary["notes"][1].startswith("line 41, output: null is not allowed")


async def test_a_limit_is_kept_and_said(build: Builder) -> None:
    build.company.add(*(document(made.key, made.text) for made in generate(7, 30)))
    result = await build("text", max_rows=10, held_out_share=0.2)
    assert len(result.training) == 8
    assert len(result.held_out) == 2
    assert result.left_out["over_max_rows"] == 20


async def test_files_are_kept_for_fine_tuning_under_the_name_of_the_dataset(build: Builder) -> None:
    build.company.add(*(document(made.key, made.text) for made in generate(7, 10)))
    built = (await build("text", held_out_share=0.3)).built
    training, held_out = (build.files.kept[file][0] for file in (built.training_file, built.held_out_file))
    assert (training.filename, training.purpose) == ("Fernwood-rows-training.jsonl", "fine-tune")
    assert held_out.filename == "Fernwood-rows-held-out.jsonl"
    none = (await build("text", held_out_share=0.0)).built
    assert none.held_out_file == ""


async def test_a_file_without_a_good_row_says_what_is_wrong_with_it(build: Builder) -> None:
    file = build.files.put(b'{"prompt": "Who leads?", "completion": 7}\n', filename="rows.jsonl")
    with pytest.raises(InvalidInput, match=r"No row of import could be made \(faults 1\)\. .*line 1"):
        await build("import", file_id=file, collection_ids=())


async def test_progress_goes_forward(build: Builder) -> None:
    build.company.add(*(document(made.key, made.text) for made in generate(7, 12)))
    await build("raft")
    steps = list(dict.fromkeys(one.step for one in build.progress))
    assert steps == ["documents", "questions", "passages", "rows", "files"]
    for step in steps:
        done = [one.done for one in build.progress if one.step == step and one.total]
        assert done == sorted(done)


async def test_nothing_is_an_error_that_says_why(build: Builder) -> None:
    build.company.add(document("a.md", "Nothing here can be asked."))
    with pytest.raises(InvalidInput, match=r"No row of raft could be made \(there was nothing to begin with\)"):
        await build("raft")
    with pytest.raises(InvalidInput, match="No row of kto could be made"):
        await build("kto")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"collection_ids": ()}, "collection_ids"),
        ({"kind": DatasetKind.IMPORT}, "file_id"),
        ({"format": "xml"}, "format"),
        ({"max_rows": -1}, "max_rows"),
        ({"passages_per_row": 99}, "passages_per_row"),
        ({"phrasings": 0}, "phrasings"),
        ({"gold_share": 1.5}, "gold_share"),
        ({"gold_share": float("nan")}, "gold_share"),
        ({"gold_share": 0.5}, "unanswerable_share"),
        ({"held_out_share": 1.0}, "held_out_share"),
    ],
)
def test_a_spec_out_of_bounds_names_its_field(fields: dict[str, Any], param: str) -> None:
    spec = BuildSpec(**({"kind": DatasetKind.RAFT, "collection_ids": ("vs_1",)} | fields))
    with pytest.raises(InvalidInput) as caught:
        spec.checked()
    assert caught.value.param == param
    assert param in caught.value.message
