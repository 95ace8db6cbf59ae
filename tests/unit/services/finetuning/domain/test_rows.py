"""Rows go to a file and come back as they were."""

import json

from hypothesis import given
from hypothesis import strategies as st

from services.finetuning.domain.row_reading import read_rows
from services.finetuning.domain.rows import (
    KIND_OF_STAGE,
    ChatRow,
    DocumentSource,
    FeedbackSource,
    FileSource,
    Row,
    RowKind,
    Turn,
    answers_of,
    as_json,
    as_line,
    kind_of,
    prompt_of,
)
from tests.unit.services.finetuning.row_strategies import (
    chat_rows,
    kto_rows,
    preference_rows,
    prompt_rows,
    rows,
    text_rows,
)

CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When does the pond open?", "name": "ada"},
        {"role": "assistant", "content": "In May.", "weight": 0},
        {"role": "user", "content": "And the boat?"},
        {"role": "assistant", "content": "In June.", "weight": 1},
    ],
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "parallel_tool_calls": False,
    "brain": {
        "sources": [
            {"document": "doc_1", "version": 2},
            {"feedback": "fb_1"},
            {"file": "file-1", "line": 12},
        ],
        "cluster": "c1",
        "split": "training",
        "rater": "user:ada",
        "phrasing": 2,
    },
}


@given(rows, st.integers(1, 40))
def test_a_row_comes_back_as_it_was_however_its_bytes_arrive(row: Row, size: int) -> None:
    line = as_line(row)
    pieces = [line[at : at + size] for at in range(0, len(line), size)]
    found = read_rows(pieces, kind_of(row))
    assert found.errors == ()
    assert [one.row for one in found.rows] == [row]


@given(
    st.one_of(
        [
            st.lists(kind, min_size=1, max_size=6)
            for kind in (text_rows, chat_rows, kto_rows, prompt_rows, preference_rows)
        ]
    )
)
def test_every_row_keeps_its_line(many: list[Row]) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(b"\r\n" + as_line(row).rstrip(b"\n") for row in many)
    found = read_rows([data], kind_of(many[0]))
    assert [one.row for one in found.rows] == many
    assert [one.line for one in found.rows] == [2 * (at + 1) for at in range(len(many))]


def test_the_shape_on_the_wire_is_kept_word_for_word() -> None:
    found = read_rows([json.dumps(CHAT).encode()], RowKind.CHAT)
    assert found.errors == ()
    row = found.rows[0].row
    assert as_json(row) == CHAT
    assert row.origin.sources == (DocumentSource("doc_1", 2), FeedbackSource("fb_1"), FileSource("file-1", 12))
    assert isinstance(row, ChatRow)
    assert [turn.is_learnt for turn in row.messages] == [False, False, False, False, True]
    assert [turn.content for turn in prompt_of(row)] == [
        "Be brief.",
        "When does the pond open?",
        "In May.",
        "And the boat?",
    ]
    assert answers_of(row) == ("In June.",)


def test_a_content_in_parts_and_a_developer_are_read_as_the_api_reads_them() -> None:
    value = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "When "}, {"type": "text", "text": "is it?"}]},
            {"role": "assistant", "content": "In May."},
        ]
    }
    (found,) = read_rows([json.dumps(value).encode()], RowKind.CHAT).rows
    assert isinstance(found.row, ChatRow)
    assert found.row.messages[:2] == (Turn("system", "Be brief."), Turn("user", "When is it?"))


def test_every_stage_has_its_rows() -> None:
    assert set(KIND_OF_STAGE.values()) == set(RowKind)
