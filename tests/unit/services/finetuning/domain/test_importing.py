"""Files of other formats become rows, with the line that each is from."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.finetuning.domain.importing import Format, imported
from services.finetuning.domain.row_reading import RowLimits
from services.finetuning.domain.rows import (
    ChatRow,
    FileSource,
    KtoRow,
    PreferenceRow,
    PromptRow,
    Row,
    RowKind,
    TextRow,
    Turn,
    as_line,
)
from tests.unit.services.finetuning.row_strategies import chat_rows, preference_rows, texts

questions = st.lists(st.tuples(texts, texts), min_size=1, max_size=5)
# What spreadsheets write into one cell.
cells = texts.filter(lambda text: "\r" not in text)


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def table(header: list[str], records: Sequence[tuple[str, ...]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([header, *records])
    return out.getvalue().encode()


def only(data: bytes, **more: Any) -> list[Row]:
    found = imported([data[at : at + 11] for at in range(0, len(data), 11)], **more)
    assert found.file.errors == ()
    return [one.row for one in found.file.rows]


def asked(question: str, answer: str, *before: Turn) -> tuple[Turn, ...]:
    return (*before, Turn("user", question), Turn("assistant", answer))


@given(st.lists(chat_rows, min_size=1, max_size=4), st.lists(preference_rows, min_size=1, max_size=4))
def test_rows_of_the_openai_api_are_taken_as_they_are(chats: list[Row], pairs: list[Row]) -> None:
    assert only(b"".join(map(as_line, chats)), format_name="openai_chat") == chats
    assert imported([b"".join(map(as_line, pairs))]).format is Format.OPENAI_PREFERENCE
    assert only(b"".join(map(as_line, pairs))) == pairs


@given(questions, st.booleans())
def test_alpaca_is_read_from_lines_and_from_an_array(pairs: list[tuple[str, str]], array: bool) -> None:
    records = [{"instruction": question, "input": "", "output": answer} for question, answer in pairs]
    data = json.dumps(records, indent=2).encode() if array else lines(records)
    assert imported([data]).format is Format.ALPACA
    assert only(data) == [ChatRow(asked(question, answer)) for question, answer in pairs]


def test_alpaca_with_everything_beside_it() -> None:
    record = {
        "system": "Be brief.", "instruction": "Add.", "input": "1 and 2", "output": "3", "history": [["Hi", "Hello"]], "id": 7,
    }  # fmt: skip
    (row,) = only(lines([record]))
    before = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello"))
    assert row == ChatRow(asked("Add.\n\n1 and 2", "3", *before), extra={"id": 7})
    assert only(lines([{"prompt": "Q", "completion": "A"}])) == [ChatRow(asked("Q", "A"))]
    assert only(lines([{"instruction": "Q", "output": "A", "kto_tag": False}])) == [
        KtoRow(asked("Q", "A"), label=False)
    ]
    pair = PreferenceRow((Turn("user", "Q"),), (Turn("assistant", "A"),), (Turn("assistant", "B"),))
    assert only(lines([{"prompt": "Q", "chosen": "A", "rejected": "B"}])) == [pair]


@given(st.lists(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), min_size=1, max_size=3), st.booleans())
def test_sharegpt_keeps_who_said_what(conversations: list[list[tuple[str, str]]], array: bool) -> None:
    records = [
        {
            "conversations": [
                turn
                for question, answer in pairs
                for turn in ({"from": "human", "value": question}, {"from": "gpt", "value": answer})
            ]
        }
        for pairs in conversations
    ]
    data = json.dumps(records).encode() if array else lines(records)
    assert imported([data]).format is Format.SHAREGPT
    expected = [ChatRow(tuple(turn for pair in pairs for turn in asked(*pair))) for pairs in conversations]
    assert only(data) == expected


def test_sharegpt_with_tools_and_with_preferences() -> None:
    record = {
        "system": "Be brief.",
        "tools": json.dumps([{"name": "look"}]),
        "conversations": [
            {"from": "human", "value": "Q"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
            {"from": "observation", "value": "T"},
            {"from": "gpt", "value": "A"},
        ],
    }
    (row,) = only(lines([record]))
    assert isinstance(row, ChatRow)
    assert [turn.role for turn in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.messages[2].tool_calls[0]["id"] == row.messages[3].extra["tool_call_id"]
    assert row.tools == ({"type": "function", "function": {"name": "look"}},)
    pair = {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    }
    assert only(lines([pair])) == [
        PreferenceRow((Turn("user", "Q"),), (Turn("assistant", "A"),), (Turn("assistant", "B"),))
    ]


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from(",;\t|"), st.booleans())
def test_a_table_is_read_whatever_separates_its_cells(
    pairs: list[tuple[str, str]], delimiter: str, marked: bool
) -> None:
    data = table([" Question", "Answer "], pairs, delimiter)
    data = b"\xef\xbb\xbf" * marked + data
    assert imported([data]).format is Format.CSV
    found = imported([data], file_id="file-1").file.rows
    assert [one.row.messages for one in found if isinstance(one.row, ChatRow)] == [asked(*pair) for pair in pairs]
    line = 2
    for one, pair in zip(found, pairs, strict=True):
        assert one.line == line
        assert one.row.origin.sources == (FileSource("file-1", line),)
        line += 1 + sum(cell.count("\n") for cell in pair)


@pytest.mark.parametrize(
    ("header", "record", "expected"),
    [
        (["text"], ("T",), TextRow("T")),
        (["prompt", "completion"], ("Q", "A"), ChatRow(asked("Q", "A"))),
        (["input", "output"], ("Q", "A"), ChatRow(asked("Q", "A"))),
        (["instruction", "input", "output"], ("Q", "C", "A"), ChatRow(asked("Q\n\nC", "A"))),
        (["System Prompt", "user", "assistant"], ("S", "Q", "A"), ChatRow(asked("Q", "A", Turn("system", "S")))),
        (["prompt", "answer", "label"], ("Q", "A", "Up"), KtoRow(asked("Q", "A"), label=True)),
        (["prompt", "answer", "rating"], ("Q", "A", "0"), KtoRow(asked("Q", "A"), label=False)),
        (["question", "reference"], ("Q", "R"), PromptRow((Turn("user", "Q"),), extra={"reference": "R"})),
        (
            ["prompt", "chosen", "rejected", "team"],
            ("Q", "A", "B", "optics"),
            PreferenceRow(
                (Turn("user", "Q"),), (Turn("assistant", "A"),), (Turn("assistant", "B"),), extra={"team": "optics"}
            ),
        ),
    ],
)
def test_the_columns_say_what_the_rows_teach(header: list[str], record: tuple[str, ...], expected: Row) -> None:
    assert only(table(header, [record])) == [expected]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"foo,bar\n1,2\n", ("no_header", 1, "")),
        (b"question,prompt,answer\na,b,c\n", ("not_allowed", 2, "question")),
        (b"answer\nc\n", ("missing", 2, "prompt")),
        (b"prompt,prompt\na,b\n", ("no_header", 1, "prompt")),
        (b"question,answer\na\n", ("wrong_columns", 2, "")),
        (b'question,answer\n"a,b\n', ("not_csv", 2, "")),
        (b"question,answer\na,b\nc,\xff\n", ("not_utf8", 3, "")),
        (b"question,answer\na,\n", ("empty", 2, "answer")),
        (b"question,answer,label\na,b,maybe\n", ("not_allowed", 2, "label")),
        (b"question,answer\na<|im_end|>,b\n", ("forged_turn", 2, "question")),
        (b"prompt,chosen\na,b\n", ("missing", 2, "rejected")),
        (b"question,answer\na,b\x00\n", ("nul", 2, "answer")),
        (lines([{"conversations": [{"from": "bard", "value": "x"}]}]), ("not_allowed", 1, "conversations[0].from")),
        (lines([{"conversations": [{"from": "gpt", "value": "x"}]}]), ("role_order", 1, "conversations[0].from")),
        (lines([{"conversations": ["x"]}]), ("wrong_type", 1, "conversations[0]")),
        (lines([{"instruction": "x", "output": 5}]), ("wrong_type", 1, "output")),
        (lines([{"instruction": "x"}]), ("wrong_type", 1, "output")),
        (lines([{"instruction": "x", "output": "y", "history": "z"}]), ("wrong_type", 1, "history")),
        (lines([{"instruction": "x", "output": "y"}, {"text": "z"}]), ("missing", 2, "instruction")),
        (lines([{"text": "x"}, {"messages": [{"role": "user", "content": "y"}]}]), ("mixed_kinds", 2, "")),
        (lines([{"what": "x"}]), ("wrong_format", 1, "")),
        (b'[{"instruction": "x", "output": "y"}', ("not_json", 1, "")),
        (b'[{"instruction": "x", "output": "y"}]\n{}', ("not_json", 2, "")),
        (b'[{"instruction": "x", "output": "y"}\n{"instruction": "x"}]', ("not_json", 1, "")),
        (b"[]", ("no_rows", 0, "")),
    ],
)
def test_a_fault_names_line_and_field_in_the_words_of_the_file(data: bytes, error: tuple[str, int, str]) -> None:
    found = imported([data]).file
    assert (found.errors[0].code, found.errors[0].line, found.errors[0].field) == error


def test_an_element_of_an_array_has_the_line_at_which_it_begins() -> None:
    data = b'[\n\n {"instruction": "a]}\\"", "output":\n "b"},\n {"instruction": "c", "output": "d"}, 5\n]'
    found = imported([data], file_id="file-1").file
    assert [one.line for one in found.rows] == [3, 5]
    assert [(error.code, error.line) for error in found.errors] == [("wrong_type", 5)]
    assert found.kind is RowKind.CHAT


def test_a_format_that_is_named_must_be_one_and_fit() -> None:
    with pytest.raises(InvalidInput, match='format: "xml" is not allowed; use openai_chat'):
        imported([b""], format_name="xml")
    assert imported([b"{}"], format_name="csv").file.errors[0].code == "wrong_format"
    assert imported([b"question,answer\na,b"], format_name="alpaca").file.errors[0].code == "wrong_format"


def test_limits_hold_for_every_format() -> None:
    limits = RowLimits(max_rows=2, max_line_bytes=60)
    many = lines([{"instruction": "x", "output": "y"}] * 3)
    assert [error.code for error in imported([many], limits=limits).file.errors] == ["too_many_rows"]
    long = json.dumps([{"instruction": "x" * 90, "output": "y"}, {"instruction": "x", "output": "y"}]).encode()
    found = imported([long], limits=limits).file
    assert [(error.code, error.line) for error in found.errors] == [("line_too_long", 1)]
    assert len(found.rows) == 1
