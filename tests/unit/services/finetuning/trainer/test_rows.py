"""Rows as tokens: cut to length, counted, and refused by number when they teach nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from services.finetuning.domain.training import Stage, TrainingSettings
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rendering import IGNORED, Renderer
from services.finetuning.trainer.rows import read_rows, rows_of

SETTINGS = TrainingSettings(n_epochs=1, batch_size=4, learning_rate=1e-4, beta=0.1, max_length=64, seed=3)
CODE = FailureCode.INVALID_TRAINING_FILE


def chat(answer: str = "It is 7.", question: str = "Which room?") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def pair(better: str = "It is 7.", worse: str = "I do not know.", question: str = "Which room?") -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse}],
    }


def test_rows_are_counted_as_tokens(renderer: Renderer) -> None:
    found = rows_of(Stage.SUPERVISED, [chat(), chat("It is 70, I think.")], renderer, SETTINGS)
    assert found.lengths == [len(ids) for ids in found.columns["input_ids"]]
    assert found.counts.tokens == sum(found.lengths)
    assert found.counts.longest == max(found.lengths)
    learnt = sum(label != IGNORED for labels in found.columns["labels"] for label in labels)
    assert found.counts.masked_tokens == found.counts.tokens - learnt
    assert (found.counts.rows, found.counts.without_labels, found.counts.truncated_tokens) == (2, 0, 0)


def test_what_is_beyond_the_longest_row_is_cut_off_and_counted(renderer: Renderer) -> None:
    whole = dataclasses.replace(SETTINGS, max_length=512)
    rows = [chat(), chat("word " * 100)]
    full, cut = (rows_of(Stage.SUPERVISED, rows, renderer, it) for it in (whole, SETTINGS))
    assert cut.counts.longest == 64
    assert cut.counts.truncated_tokens == full.counts.tokens - cut.counts.tokens > 0


def test_one_row_in_a_hundred_may_teach_nothing_and_is_left_out(renderer: Renderer) -> None:
    rows = [chat() for _ in range(99)] + [chat(question="word " * 100)]
    found = rows_of(Stage.SUPERVISED, rows, renderer, SETTINGS)
    assert (found.counts.rows, found.counts.without_labels) == (99, 1)


def test_more_rows_that_teach_nothing_are_refused_by_number(renderer: Renderer) -> None:
    silent = {"messages": [*chat()["messages"][:1], {"role": "assistant", "content": "No.", "weight": 0}]}
    rows = [chat() for _ in range(97)]
    rows[3] = rows[7] = silent
    with pytest.raises(Refused, match=r"2 of 97 rows .*rows 4, 8\b") as caught:
        rows_of(Stage.SUPERVISED, rows, renderer, SETTINGS)
    assert caught.value.code is CODE


@pytest.mark.parametrize("stage", list(Stage))
def test_a_row_of_another_form_is_refused_by_number(renderer: Renderer, stage: Stage) -> None:
    with pytest.raises(Refused, match=r"^Row 1 has not the form that"):
        rows_of(stage, [{"colour": "blue"}], renderer, SETTINGS)


def test_no_end_of_an_answer_within_any_row_is_refused(renderer: Renderer) -> None:
    with pytest.raises(Refused, match="would not stop") as caught:
        rows_of(Stage.SUPERVISED, [chat("word " * 100)] * 3, renderer, SETTINGS)
    assert caught.value.code is FailureCode.INVALID_MODEL


def test_documents_are_joined_to_blocks_without_padding(renderer: Renderer) -> None:
    rows = [{"text": f"Room {number} is on the left. " * (number + 1)} for number in range(9)]
    found = rows_of(Stage.CONTINUED_PRETRAINING, rows, renderer, SETTINGS)
    assert set(found.lengths[:-1]) == {64}
    assert sum(found.lengths) >= sum(len(renderer.document(row["text"])) for row in rows) - 1
    assert found.columns["labels"] == found.columns["input_ids"]
    again = rows_of(Stage.CONTINUED_PRETRAINING, rows, renderer, SETTINGS)
    other = rows_of(Stage.CONTINUED_PRETRAINING, rows, renderer, dataclasses.replace(SETTINGS, seed=4))
    assert found.columns == again.columns
    assert found.columns != other.columns


def test_two_answers_that_are_the_same_teach_nothing(renderer: Renderer) -> None:
    for stage in (Stage.DPO, Stage.REWARD_MODEL):
        with pytest.raises(Refused, match="hold nothing to learn"):
            rows_of(stage, [pair("Yes.", "Yes.")], renderer, SETTINGS)


def test_a_reward_model_reads_whole_answers_only(renderer: Renderer) -> None:
    rows = [pair() for _ in range(100)] + [pair("word " * 100)]
    found = rows_of(Stage.REWARD_MODEL, rows, renderer, SETTINGS)
    assert found.counts.without_labels == 1
    assert found.columns["chosen_ids"][0] == renderer.whole(
        [*rows[0]["input"]["messages"], *rows[0]["preferred_output"]]
    )


def test_answers_are_cut_to_what_their_prompt_leaves(renderer: Renderer) -> None:
    found = rows_of(Stage.DPO, [pair("word " * 100)], renderer, SETTINGS)
    prompt, chosen, rejected = (found.columns[name][0] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    assert len(prompt) + len(chosen) == 64
    assert len(rejected) < len(chosen)
    assert found.counts.truncated_tokens > 0


def test_a_prompt_must_leave_room_for_its_answer(renderer: Renderer) -> None:
    prompt: dict[str, Any] = {"messages": [{"role": "user", "content": "Which room?"}], "reference": "7"}
    length = len(renderer.prompt(prompt["messages"]))
    fits = dataclasses.replace(SETTINGS, max_length=length + 8, max_completion_tokens=8)
    found = rows_of(Stage.RLHF, [prompt], renderer, fits)
    assert json.loads(found.columns["row"][0]) == prompt
    with pytest.raises(Refused):
        rows_of(Stage.RLHF, [prompt], renderer, dataclasses.replace(fits, max_completion_tokens=9))


def test_lineage_beside_a_row_changes_nothing(renderer: Renderer) -> None:
    plain, marked = chat(), {**chat(), "brain": {"documents": ["doc_1"]}}
    found = [rows_of(Stage.SUPERVISED, [row], renderer, SETTINGS).columns for row in (plain, marked)]
    assert found[0] == found[1]


@pytest.mark.parametrize(("text", "reason"), [("", "no rows"), ("{}\n[]\n", "Row 2"), ("{}\n{", "cannot be read")])
def test_a_file_that_is_no_jsonl_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(Refused, match=reason):
        read_rows(path, CODE)
    with pytest.raises(Refused, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl", CODE)
